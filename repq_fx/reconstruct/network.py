"""Reconstruction of a whole network, part by part."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from ..backend.prepared_view import PreparedView
from ..quant.images import images_worth_keeping
from ..refine.refinement import Refinement
from ..refine.sequential import Pair, SequentialWalk
from .activation_store import ActivationStore
from .checkpoint import Checkpoint, fingerprint_of
from .learned_part import LearnedPart
from .losses import Fisher
from .methods import Reconstruction
from .networks import Networks
from .part_data import NetworkData
from .partition import Partition, partition_network
from .rest_of_network import OutcomeOfPart, OutputGradients, RestOfNetwork
from .stored_tensors import StoredTensors
from .training import Batch, PartReport, PartTrainer, Samples
from .unit import Unit, tail_of_stage

# Weights are rounded for as many images as fit with so many values of a tensor, which is held
# several times in float32.
_MOST_VALUES = 2**27
# What of a network can be stored is seen with so many images: rarely is that another axis's length.
_FEW_IMAGES = 7


@dataclass(frozen=True)
class Run:
    """What one reconstruction is asked to do.

    Attributes:
        method: What is learned, and how.
        seed: Of all random numbers.
        goes_on: Start from what was found before instead of choosing ranges and rounding first.
    """

    method: Reconstruction
    seed: int
    goes_on: bool


@dataclass(frozen=True)
class ImageSplit:
    """Indices of the images that are trained on, and of those that judge."""

    training: Tensor
    validation: Tensor

    @staticmethod
    def of(images: int, run: Run) -> "ImageSplit":
        """A random split into as many as the method holds out, and the others."""
        order = torch.randperm(images, generator=torch.Generator().manual_seed(run.seed))
        held_out = run.method.held_out(images)
        return ImageSplit(order[held_out:], order[:held_out])


class NetworkReconstruction:
    """Learns the parts of one network in order.

    Args:
        networks: The network, which is written to, and in float.
        inputs: All images, ``[N, ...]`` for each input of the network.
        run: What is asked for.
        store: For the activations of these images.
        found: Of the network so far. What is learned is added.
    """

    def __init__(
        self,
        networks: Networks,
        inputs: Sequence[Tensor],
        run: Run,
        store: ActivationStore,
        found: Refinement,
    ) -> None:
        self._networks, self._run, self._found = networks, run, found
        few = [value[:_FEW_IMAGES].to(networks.device) for value in inputs]
        self._stored = StoredTensors(networks.original, few)
        partition = Partition(run.method.partition)
        self._units = partition_network(networks.view, self._stored, partition)
        nodes = networks.view.graph_module.graph.nodes
        names = [node.name for node in nodes if node.op == "placeholder"]
        named_inputs = dict(zip(names, inputs, strict=True))
        self._data = NetworkData(store, run.method, networks.device, named_inputs)
        self._split = ImageSplit.of(len(inputs[0]), run)
        self._enough = images_worth_keeping(tuple(inputs))
        self._behind = RestOfNetwork(networks.original, self._stored)

    def run(self, finished: Checkpoint, *, progress: bool) -> list[PartReport]:
        """Learn all parts, or those that are not in the checkpoint."""
        reports = []
        bar = tqdm(self._units, desc="reconstruct", unit="part", disable=not progress)
        for index, unit in enumerate(bar):
            if index in finished:
                found, report = finished[index]
                self._take(found)
                self._data.store_exact(unit, unit.module(self._networks.exact))
            else:
                report = self._learn(index, bar)
                finished.add(index, self._found.only(self._called_by(unit)), report)
            part = self._part(unit, {})
            part.harden(hard=True)
            self._data.store_quantized(unit, part.module)
            reports += [report] if report is not None else []
            self._forget_all_but_inputs(index + 1)
        return reports

    def _called_by(self, unit: Unit) -> set[str]:
        called = [str(node.target) for node in unit.nodes if node.op == "call_module"]
        return {self._networks.view.first_name(name) for name in called}

    def _take(self, found: Refinement) -> None:
        self._found.update(found)
        found.write(self._networks.view.graph_module)

    def _learn(self, index: int, bar: "tqdm[Unit]") -> PartReport | None:
        unit = self._units[index]
        if not self._run.goes_on:
            self._quantize(unit)
        magnitudes, sizes = self._store_targets(unit)
        # A layer that is called twice is learned with its first call.
        done = {name for other in self._units[:index] for name in other.layers}
        magnitudes = {name: size for name, size in magnitudes.items() if name not in done}
        if not magnitudes or not unit.outputs:
            return None
        part = self._part(unit, magnitudes)
        trainer = self._trainer(index, part, sizes)

        def show(iteration: int, error: float) -> None:
            bar.set_postfix(part=unit.name, iteration=iteration, error=f"{error:.4g}")

        report = trainer.run(unit.name, show)
        self._take(part.result())
        return report

    def _trainer(self, index: int, part: LearnedPart, sizes: list[float]) -> PartTrainer:
        """What learns the part of one unit.

        Args:
            index: Of the unit.
            part: What is learned.
            sizes: Of the unit's outputs.
        """
        unit, units, method = self._units[index], self._units, self._run.method
        tail, ends = None, 0
        if method.across_blocks:
            tail, ends = tail_of_stage(unit, units, self._networks.exact)
        if tail is not None:
            sizes = sizes + self._data.store_ends(unit, tail, ends)
        if isinstance(method.loss, Fisher):
            self._weigh(index, part)

        def read(images: Tensor, generator: torch.Generator | None) -> Batch:
            return self._data.batch(unit, ends, images, generator)

        first = self._data.exact(unit.outputs, self._split.training[:1])
        values = sum(output.numel() for output in first)
        samples = Samples(self._split.training, self._split.validation, sizes, values, read)
        # A seed of its own, so that an interrupted run goes on as if it had not been.
        generator = torch.Generator().manual_seed(self._run.seed * 1_000_003 + index)
        outcome = OutcomeOfPart(
            self._behind, self._data, unit, units[: index + 1], self._split.validation,
            method.batch_size,
        )  # fmt: skip
        return PartTrainer(part, tail, samples, method, generator, outcome.error)

    def _quantize(self, unit: Unit) -> None:
        """Choose ranges, round weights and correct biases for what arrives."""
        largest = max((self._stored.values(node) for node in unit.nodes), default=1)
        count = max(self._enough, _MOST_VALUES // max(largest, 1))
        # None of those that judge: the learned rounding would be held against one that knows them.
        images = self._split.training[:count]
        exact = self._data.exact(unit.inputs, images)
        arriving = self._data.quantized(unit.inputs, images)
        pairs = [Pair(*pair) for pair in zip(exact, arriving, strict=True)]
        view, original = self._networks.view, self._networks.original
        walk = SequentialWalk(view, original, self._found, thorough=True)
        walk.through(unit.module(self._networks.values), pairs)

    def _store_targets(self, unit: Unit) -> tuple[dict[str, Tensor], list[float]]:
        """Run the part in float over all images.

        Returns:
            The root mean squares of what its layers compute for the first images, and the sizes of
            its outputs.
        """
        module = unit.module(self._networks.exact)
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
        return LearnedPart(unit, self._networks, self._found, magnitudes, self._run.method)

    def _weigh(self, index: int, part: LearnedPart) -> None:
        """Store the weights of the errors."""
        unit, finished = self._units[index], self._units[: index + 1]
        gradients = OutputGradients(self._behind, self._data)
        part.harden(hard=True)
        self._data.store_fisher(unit, lambda i: gradients.at(unit, finished, part.module, i))

    def _forget_all_but_inputs(self, finished: int) -> None:
        needed = {name for unit in self._units[finished:] for name in unit.inputs}
        needed |= self._behind.needed(self._units[:finished])
        self._data.keep_only(needed)


def fingerprint_of_run(
    networks: Networks, inputs: Sequence[Tensor], run: Run, found: Refinement
) -> str:
    """A hash of everything that the result of a reconstruction depends on.

    Of what was `found` before, the networks hold the weights and biases.
    """
    plans, counts = _decisions(networks.view)
    code = networks.view.graph_module.code
    description = f"{run.method} {run.seed} {run.goes_on} {code} {plans} {found.ranges}"
    both = (networks.original, networks.view.graph_module)
    weights = [value for network in both for value in network.state_dict().values()]
    return fingerprint_of(description, [*inputs, *weights, *counts])


def _decisions(view: PreparedView) -> tuple[list[str], list[Tensor]]:
    """What a scheme has decided, and what observers have counted."""
    decisions = [f"{node.target} {plan}" for node, plan in view.layers.items()]
    counts = []
    for node, observer in view.observers.items():
        counts.append(observer.histogram.counts)
        facts = (observer.plan, observer.ignored_value, observer.histogram.exponent)
        decisions.append(f"{node.target} {facts}")
    return decisions, counts
