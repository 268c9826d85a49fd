"""Reconstruction of a whole network, part by part."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from tqdm import tqdm

from ..backend.refined_copy import refined_copy
from ..backend.refinement import REFINEMENT, Refinement
from ..backend.sequential import ObserverRoles, Pair, quantize_sequentially
from ..errors import CalibrationError
from ..quant import ActivationObserver
from ..quant.calibration import Batch as CalibrationBatch
from ..quant.calibration import batches_of, images_worth_keeping, model_inputs
from .activation_store import ActivationStore
from .learned_part import LearnedPart
from .losses import size_of
from .methods import Reconstruction
from .partition import Partition, StoredTensors, partition_network
from .training import Batch, PartReport, PartTrainer, Samples
from .unit import Unit, called_values, tail_of_stage

_EXACT, _QUANTIZED = "exact/", "quantized/"


def reconstruct_network(
    prepared: GraphModule,
    data: Tensor | Iterable[CalibrationBatch],
    method: Reconstruction,
    *,
    memory: int,
    seed: int,
    progress: bool,
) -> list[PartReport]:
    """See `repq_fx.reconstruct`."""
    refined = refined_copy(prepared, "reconstruct")
    inputs = _joined_inputs(refined, data)
    generator = torch.Generator().manual_seed(seed)
    with ActivationStore(len(inputs[0]), memory) as store:
        network = _Network(refined, inputs, method, store, generator)
        reports = network.run(progress=progress)
    found = Refinement()
    found.read(refined)
    prepared.meta[REFINEMENT] = found
    return reports


class _Network:
    def __init__(
        self,
        refined: GraphModule,
        inputs: Sequence[Tensor],
        method: Reconstruction,
        store: ActivationStore,
        generator: torch.Generator,
    ) -> None:
        self._refined, self._method, self._store = refined, method, store
        self._generator = generator
        self._original = _float_copy(refined)
        self._roles = ObserverRoles.of(refined)
        self._values = called_values(refined, refined.graph)
        self._exact = called_values(self._original, refined.graph)
        self._device = next((p.device for p in refined.parameters()), inputs[0].device)
        self._images = len(inputs[0])
        self._few = images_worth_keeping(inputs)
        few = [value[:32].to(self._device) for value in inputs]
        stored = StoredTensors(self._original, few)
        self._units = partition_network(refined, stored, Partition(method.partition))
        placeholders = [n.name for n in refined.graph.nodes if n.op == "placeholder"]
        for name, value in zip(placeholders, inputs, strict=True):
            store.write(_EXACT + name, 0, value)
            store.share(_QUANTIZED + name, _EXACT + name)
        self._learned: set[str] = set()

    def run(self, *, progress: bool) -> list[PartReport]:
        reports = []
        bar = tqdm(self._units, desc="reconstruct", unit="part", disable=not progress)
        for index, unit in enumerate(bar):
            report = self._learn(unit, bar)
            if report is not None:
                reports.append(report)
            self._forget(self._units[index + 1 :])
        return reports

    def _learn(self, unit: Unit, bar: Any) -> PartReport | None:
        self._quantize(unit)
        magnitudes, sizes = self._store_targets(unit)
        new = {name: size for name, size in magnitudes.items() if name not in self._learned}
        self._learned.update(new)
        part = LearnedPart(unit, self._values, self._exact, new, self._roles, self._method)
        tail = None
        if self._method.across_blocks:
            tail = tail_of_stage(unit, self._units, self._exact)
        if tail is not None:
            sizes = [*sizes, *self._store_ends(unit, tail)]
        order = torch.randperm(self._images, generator=self._generator)
        held_out = max(1, round(self._images * self._method.validation))

        def read(images: Tensor, generator: torch.Generator | None) -> Batch:
            return self._read(unit, tail is not None, images, generator)

        values = sum(self._get(_EXACT + name, order[:1]).numel() for name in unit.outputs)
        samples = Samples(order[held_out:], order[:held_out], sizes, values, read)
        trainer = PartTrainer(part, tail, samples, self._method, self._generator)
        report = trainer.run(unit.name, lambda i, error: bar.set_postfix(
            part=unit.name, iteration=i, error=f"{error:.4g}"))  # fmt: skip
        part.write()
        part.harden(hard=True)
        self._store_outputs(unit, part.module, _QUANTIZED)
        return report

    def _quantize(self, unit: Unit) -> None:
        """Choose ranges, round weights and correct biases for what arrives."""
        few = torch.arange(min(self._images, self._few))
        pairs = [
            Pair(self._get(_EXACT + name, few), self._get(_QUANTIZED + name, few))
            for name in unit.inputs
        ]
        quantize_sequentially(
            unit.module(self._values), self._original, pairs, self._roles
        )

    @torch.no_grad()
    def _store_targets(self, unit: Unit) -> tuple[dict[str, Tensor], list[float]]:
        """Run the part in float over all images.

        Returns:
            The root mean squares of what its layers compute, for the first images, and the mean
            powers of its outputs.
        """
        module = unit.module(self._exact)
        magnitudes: dict[str, Tensor] = {}

        def measure(name: str) -> Any:
            def hook(_: nn.Module, __: Any, output: Tensor) -> None:
                magnitudes.setdefault(name, output.square().mean().sqrt())

            return hook

        hooks = [
            module.get_submodule(name).register_forward_hook(measure(name)) for name in unit.layers
        ]
        sizes = self._store_outputs(unit, module, _EXACT)
        for hook in hooks:
            hook.remove()
        return magnitudes, sizes

    @torch.no_grad()
    def _store_outputs(self, unit: Unit, module: GraphModule, prefix: str) -> list[float]:
        sums = [0.0] * len(unit.outputs)
        for images in torch.arange(self._images).split(self._method.batch_size):
            outputs = module(*(self._get(prefix + name, images) for name in unit.inputs))
            for index, (name, output) in enumerate(zip(unit.outputs, outputs, strict=True)):
                self._store.write(prefix + name, int(images[0]), output)
                sums[index] += float(size_of(output, self._method.loss.power)) * len(images)
        return [max(total / self._images, torch.finfo(torch.float32).tiny) for total in sums]

    @torch.no_grad()
    def _store_ends(self, unit: Unit, tail: GraphModule) -> list[float]:
        sums: list[float] = []
        for images in torch.arange(self._images).split(self._method.batch_size):
            ends = tail(*(self._get(_EXACT + name, images) for name in unit.outputs))
            sums = sums or [0.0] * len(ends)
            for index, end in enumerate(ends):
                self._store.write(f"end/{index}", int(images[0]), end)
                sums[index] += float(size_of(end, self._method.loss.power)) * len(images)
        self._ends = [f"end/{index}" for index in range(len(sums))]
        return [max(total / self._images, torch.finfo(torch.float32).tiny) for total in sums]

    def _read(
        self, unit: Unit, has_tail: bool, images: Tensor, generator: torch.Generator | None
    ) -> Batch:
        inputs = [self._input(name, images, generator) for name in unit.inputs]
        targets = [self._get(_EXACT + name, images) for name in unit.outputs]
        if has_tail:
            targets += [self._get(name, images) for name in self._ends]
        return Batch(inputs, targets, [None] * len(unit.outputs))

    def _input(self, name: str, images: Tensor, generator: torch.Generator | None) -> Tensor:
        kind = self._method.input
        if generator is None or kind == "quantized":
            return self._get(_QUANTIZED + name, images)
        exact = self._get(_EXACT + name, images)
        if kind == "float":
            return exact
        keep = torch.rand(exact.shape, generator=generator) < self._method.keep
        return torch.where(keep.to(exact.device), exact, self._get(_QUANTIZED + name, images))

    def _get(self, name: str, images: Tensor) -> Tensor:
        return self._store[name].read(images, self._device)

    def _forget(self, later: Sequence[Unit]) -> None:
        needed = {name for unit in later for name in unit.inputs}
        self._store.keep_only([prefix + n for n in needed for prefix in (_EXACT, _QUANTIZED)])


def _float_copy(refined: GraphModule) -> GraphModule:
    """A copy without observers."""
    import copy

    original = copy.deepcopy(refined)
    for name, module in list(original.named_modules()):
        if isinstance(module, ActivationObserver):
            original.set_submodule(name, nn.Identity())
    return original


def _joined_inputs(
    network: GraphModule, data: Tensor | Iterable[CalibrationBatch]
) -> tuple[Tensor, ...]:
    count = sum(node.op == "placeholder" for node in network.graph.nodes)
    kept = [
        model_inputs(batch, count, f"reconstruct: batch {index}")
        for index, batch in enumerate(batches_of(data))
    ]
    if not kept:
        raise CalibrationError("reconstruct: the data is empty.")
    return tuple(torch.cat(values) for values in zip(*kept, strict=True))

