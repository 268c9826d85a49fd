"""One unit of a network with everything in it that a method learns."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..learn.layer import LearnedLayer
from ..learn.step import LearnedStep
from ..refine.refinement import Refinement
from .methods import Reconstruction
from .networks import Networks
from .unit import Unit

State = dict[str, Tensor]


class LearnedPart:
    """A unit in which layers and observers are replaced by learned ones.

    Args:
        unit: Which part of the network.
        networks: The network, and in float.
        found: Weights of the layers that are to be learned, and ranges.
        magnitudes: Of the outputs of these layers, scalars by name.
        method: What is learned. The step of an observer that is shared is not.
    """

    def __init__(
        self,
        unit: Unit,
        networks: Networks,
        found: Refinement,
        magnitudes: Mapping[str, Tensor],
        method: Reconstruction,
    ) -> None:
        view, values = networks.view, networks.values
        self._first_name = view.first_name
        self.layers: dict[str, LearnedLayer] = {}
        for name, magnitude in magnitudes.items():
            quantized: Any = values[name]
            original: Any = networks.exact[name]
            weight = found.weights[view.first_name(name)].to(quantized.weight.device)
            self.layers[name] = LearnedLayer(
                original, weight, quantized.bias, magnitude, rounds_coarse=method.rounds_coarse
            )
        self.steps: dict[str, LearnedStep] = {}
        replaced = {**values, **self.layers}
        learned: list[LearnedStep] = []
        for node in unit.nodes:
            name, observer = str(node.target), view.observer(node)
            if observer is None:
                continue
            replaced[name] = nn.Identity()
            if node.name in view.read:
                chosen = found.ranges.get(view.first_name(name))
                parameters = chosen or observer.parameters_of_range()
                step = LearnedStep(parameters, observer.grid, networks.device)
                replaced[name] = self.steps[name] = step
                if node.name in view.unshared:
                    learned.append(step)
        self.module = unit.module(replaced)
        self.groups = _parameter_groups(list(self.layers.values()), learned, method)

    def harden(self, *, hard: bool) -> None:
        """Compute as the converted network will, or as is learned."""
        # Not the whole module: dropout and normalization stay as they are in evaluation.
        for step in self.steps.values():
            step.train(not hard)
        for layer in self.layers.values():
            layer.is_hard = hard

    def set_beta(self, beta: float | None) -> None:
        """The power of the rounding regularizer; None for none."""
        for layer in self.layers.values():
            layer.beta = beta

    def set_keep(self, keep: float, generator: torch.Generator) -> None:
        """QDrop's probability, and its random numbers."""
        for step in self.steps.values():
            step.keep = keep
            step.seed(int(torch.randint(2**62, (), generator=generator)))

    def regularizer(self) -> Tensor | float:
        """Of the rounding in the last call, its mean over all weights."""
        layers = self.layers.values()
        total = sum(layer.regularizer for layer in layers)
        return total / sum(layer.fine.logits.numel() for layer in layers)

    def undecided(self) -> float:
        """The largest share of undecided weights of any layer."""
        return max(layer.fine.undecided() for layer in self.layers.values())

    def state(self) -> State:
        """A copy of everything that is learned."""
        parameters = self.module.named_parameters()
        return {name: value.detach().clone() for name, value in parameters}

    @torch.no_grad()
    def restore(self, state: State) -> None:
        """Go back to a `state`."""
        for name, value in self.module.named_parameters():
            value.copy_(state[name])

    def result(self) -> Refinement:
        """What was learned."""
        layers = {self._first_name(n): layer.result() for n, layer in self.layers.items()}
        return Refinement(
            {name: weight for name, (weight, _) in layers.items()},
            {name: bias for name, (_, bias) in layers.items()},
            {self._first_name(name): step.result() for name, step in self.steps.items()},
        )


def _parameter_groups(
    layers: list[LearnedLayer], steps: list[LearnedStep], method: Reconstruction
) -> list[dict[str, Any]]:
    """Of the optimizer; parameters with rate 0 are frozen and in none."""
    logits = [
        rounding.logits
        for layer in layers
        for rounding in (layer.fine, layer.coarse)
        if rounding is not None
    ]
    by_rate = [
        (method.rounding_rate, logits),
        (method.step_rate, [step.growth for step in steps]),
        (method.gain_rate, [layer.gain for layer in layers]),
        (method.shift_rate, [layer.shift for layer in layers]),
    ]
    groups = []
    for rate, parameters in by_rate:
        for parameter in parameters:
            parameter.requires_grad_(rate > 0)
        if rate > 0 and parameters:
            groups.append({"params": parameters, "lr": rate})
    return groups
