"""One unit of a network with everything in it that a method learns."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from ..backend.quantized_layer import quantized_weight_of, set_quantized
from ..learn.layer import LearnedLayer
from ..learn.step import LearnedStep
from ..quant import ActivationObserver
from ..refine.sequential import ObserverRoles
from .methods import Reconstruction
from .unit import Unit

State = dict[str, Tensor]
Values = Mapping[str, nn.Module | Tensor]


class LearnedPart:
    """A unit in which layers and observers are replaced by learned ones.

    Args:
        unit: Which part of the network.
        values: All that it calls or gets, by qualified name. Layers hold a quantized weight.
        original: The same in float.
        magnitudes: Of the outputs of the layers that are to be learned, scalars by name.
        roles: Of the network's observers. The step of one that is shared is not learned.
        method: What is learned.
        device: Of the steps.
    """

    def __init__(
        self,
        unit: Unit,
        values: Values,
        original: Values,
        magnitudes: Mapping[str, Tensor],
        roles: ObserverRoles,
        method: Reconstruction,
        device: torch.device,
    ) -> None:
        self._values = values
        self.layers = {
            name: _learned_layer(values[name], original[name], size, method)
            for name, size in magnitudes.items()
        }
        self.steps: dict[str, LearnedStep] = {}
        replaced = {**values, **self.layers}
        learned: list[LearnedStep] = []
        for node in unit.nodes:
            name = str(node.target)
            observer = values.get(name)
            if node.op != "call_module" or not isinstance(observer, ActivationObserver):
                continue
            replaced[name] = nn.Identity()
            if node.name in roles.read:
                step = LearnedStep(observer.parameters_of_range(), observer.grid, device)
                replaced[name] = self.steps[name] = step
                if node.name in roles.own_range:
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

    def hard_module(self) -> GraphModule:
        """The part as it would be converted now."""
        self.harden(hard=True)
        return self.module

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

    def write(self) -> None:
        """Leave what was learned on the layers and observers that it was made from."""
        for name, layer in self.layers.items():
            set_quantized(self._values[name], *layer.result())
        for name, step in self.steps.items():
            observer = self._values[name]
            if isinstance(observer, ActivationObserver):
                observer.chosen = step.result()


def _learned_layer(
    quantized: Any, original: Any, magnitude: Tensor, method: Reconstruction
) -> LearnedLayer:
    weight = quantized_weight_of(quantized)
    assert weight is not None
    return LearnedLayer(
        original, weight, quantized.bias, magnitude, rounds_coarse=method.rounds_coarse
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
