"""Reconstruction of a whole network, part by part."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.fx import GraphModule
from tqdm import tqdm

from ..backend.quantized_layer import weight_observer
from ..quant import ActivationObserver, WeightObserver
from ..quant.kept_inputs import images_worth_keeping
from ..refine.refinement import Refinement
from ..refine.sequential import ObserverRoles, Pair, quantize_sequentially
from .activation_store import ActivationStore
from .checkpoint import Checkpoint, fingerprint_of
from .fisher import OutputGradients
from .learned_part import LearnedPart
from .losses import Fisher
from .methods import Reconstruction
from .part_data import NetworkData
from .partition import Partition, partition_network
from .rest_of_network import OutcomeOfPart, RestOfNetwork
from .stored_tensors import StoredTensors
from .training import Batch, PartReport, PartTrainer, Samples
from .unit import Unit, called_values, tail_of_stage

# Weights are rounded for as many images as fit with so many values of a tensor, which is held
# several times in float32.
_MOST_VALUES = 2**27


class NetworkReconstruction:
    """Learns the parts of one network in order.

    Args:
        refined: A copy of a prepared network, which is written to.
        original: Another copy, in float.
        inputs: All images, ``[N, ...]`` for each input of the network.
        method: What is learned, and how.
        store: For the activations of these images.
        seed: Of all random numbers.
        goes_on: Start from the weights and ranges that `refined` holds already.
    """

    def __init__(
        self,
        refined: GraphModule,
        original: GraphModule,
        inputs: Sequence[Tensor],
        method: Reconstruction,
        store: ActivationStore,
        seed: int,
        *,
        goes_on: bool,
    ) -> None:
        self._refined, self._method, self._seed = refined, method, seed
        self._goes_on = goes_on
        self._inputs = inputs
        self._finished: set[str] = set()
        self._original = original
        self._roles = ObserverRoles.of(refined)
        self._values = called_values(refined, refined.graph)
        self._exact = called_values(self._original, refined.graph)
        self._device = next((p.device for p in refined.parameters()), inputs[0].device)
        few = [value[:7].to(self._device) for value in inputs]
        self._stored = stored = StoredTensors(self._original, few)
        self._units = partition_network(refined, stored, Partition(method.partition))
        names = [n.name for n in refined.graph.nodes if n.op == "placeholder"]
        self._data = NetworkData(store, method, self._device, dict(zip(names, inputs, strict=True)))
        order = torch.randperm(len(inputs[0]), generator=torch.Generator().manual_seed(seed))
        held_out = method.held_out(len(order))
        self._validation, self._training = order[:held_out], order[held_out:]
        self._behind = RestOfNetwork(self._original, stored)
        self._gradients = None
        if isinstance(method.loss, Fisher):
            self._gradients = OutputGradients(self._behind, self._data)

    def run(self, checkpoint: Path | None, *, progress: bool) -> list[PartReport]:
        """Learn all parts, or those that are not in the checkpoint."""
        rules, counts = _rules_of(self._refined)
        description = f"{self._method} {self._seed} {self._goes_on} {self._refined.code} {rules}"
        networks = (self._original, self._refined)
        weights = [value for net in networks for value in net.state_dict().values()]
        tensors = [*self._inputs, *weights, *counts]
        finished = Checkpoint(checkpoint, fingerprint_of(description, tensors))
        reports = []
        bar = tqdm(self._units, desc="reconstruct", unit="part", disable=not progress)
        for index, unit in enumerate(bar):
            if index in finished:
                found, report = finished[index]
                found.write(self._refined)
                self._data.store_exact(unit, unit.module(self._exact))
            else:
                report = self._learn(index, unit, bar)
                found = Refinement()
                found.read({name: self._values[name] for name in self._called_by(unit)})
                finished.add(index, found, report)
            self._finished.update(unit.layers)
            self._data.store_quantized(unit, self._part(unit, {}).hard_module())
            reports += [report] if report is not None else []
            self._forget_all_but_inputs(index + 1)
        return reports

    def _learn(self, index: int, unit: Unit, bar: "tqdm[Unit]") -> PartReport | None:
        if not self._goes_on:
            self._quantize(unit)
        magnitudes, sizes = self._store_targets(unit)
        # A layer that is called twice is learned with its first call.
        magnitudes = {n: size for n, size in magnitudes.items() if n not in self._finished}
        if not magnitudes or not unit.outputs:
            return None
        part = self._part(unit, magnitudes)
        tail, ends = None, 0
        if self._method.across_blocks:
            tail, ends = tail_of_stage(unit, self._units, self._exact)
        if tail is not None:
            sizes += self._data.store_ends(unit, tail, ends)
        self._weigh(index, unit, part)

        def read(images: Tensor, generator: torch.Generator | None) -> Batch:
            return self._data.batch(unit, ends, images, generator)

        first = self._data.exact(unit.outputs, self._training[:1])
        values = sum(output.numel() for output in first)
        samples = Samples(self._training, self._validation, sizes, values, read)
        # A seed of its own, so that an interrupted run goes on as if it had not been.
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + index)
        outcome = OutcomeOfPart(
            self._behind, self._data, unit, self._units[: index + 1], self._validation,
            self._method.batch_size,
        )  # fmt: skip
        trainer = PartTrainer(part, tail, samples, self._method, generator, outcome.error)

        def show(iteration: int, error: float) -> None:
            bar.set_postfix(part=unit.name, iteration=iteration, error=f"{error:.4g}")

        report = trainer.run(unit.name, show)
        part.write()
        return report

    def _quantize(self, unit: Unit) -> None:
        """Choose ranges, round weights and correct biases for what arrives."""
        largest = max((self._stored.values(node) for node in unit.nodes), default=1)
        count = max(images_worth_keeping(tuple(self._inputs)), _MOST_VALUES // max(largest, 1))
        # None of those that judge: the learned rounding would be held against one that knows them.
        images = self._training[:count]
        exact = self._data.exact(unit.inputs, images)
        arriving = self._data.quantized(unit.inputs, images)
        pairs = [Pair(*pair) for pair in zip(exact, arriving, strict=True)]
        quantize_sequentially(
            unit.module(self._values), self._original, pairs, self._roles, thorough=True
        )

    def _store_targets(self, unit: Unit) -> tuple[dict[str, Tensor], list[float]]:
        """Run the part in float over all images.

        Returns:
            The root mean squares of what its layers compute for the first images, and the sizes of
            its outputs.
        """
        module = unit.module(self._exact)
        magnitudes: dict[str, Tensor] = {}

        def measure(name: str, output: Tensor) -> None:
            magnitudes.setdefault(name, output.square().mean().sqrt())

        hooks = [
            module.get_submodule(name).register_forward_hook(
                lambda _, __, output, name=name: measure(name, output)
            )
            for name in unit.layers
        ]
        sizes = self._data.store_exact(unit, module)
        for hook in hooks:
            hook.remove()
        return magnitudes, sizes

    def _part(self, unit: Unit, magnitudes: dict[str, Tensor]) -> LearnedPart:
        return LearnedPart(
            unit, self._values, self._exact, magnitudes, self._roles, self._method, self._device
        )

    def _called_by(self, unit: Unit) -> list[str]:
        return [str(node.target) for node in unit.nodes if node.op == "call_module"]

    def _weigh(self, index: int, unit: Unit, part: LearnedPart) -> None:
        """Weights of the errors, if the loss asks for them."""
        gradients, module, finished = self._gradients, part.hard_module(), self._units[: index + 1]
        if gradients is not None:
            self._data.store_fisher(unit, lambda i: gradients.at(unit, finished, module, i))

    def _forget_all_but_inputs(self, finished: int) -> None:
        needed = {name for unit in self._units[finished:] for name in unit.inputs}
        needed |= self._behind.needed(self._units[:finished])
        self._data.keep_only(needed)


def _rules_of(refined: GraphModule) -> tuple[list[str], list[Tensor]]:
    """What a scheme has left on the observers, and what they have counted."""
    rules, counts = [], []
    for name, module in refined.named_modules():
        observer: ActivationObserver | WeightObserver | None = weight_observer(module)
        if isinstance(module, ActivationObserver):
            observer = module
            counts.append(module.histogram.counts)
            rules.append(f"{name} {module.histogram.exponent}")
        if observer is not None:
            hidden = ("histogram", "training")
            fields = {k: v for k, v in vars(observer).items() if k[0] != "_" and k not in hidden}
            rules.append(f"{name} {fields}")
    return rules, counts
