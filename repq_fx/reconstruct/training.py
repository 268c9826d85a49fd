"""Learning one part: the loop, its schedule, convergence and rolling back."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule

from .learned_part import LearnedPart
from .losses import output_error
from .methods import Reconstruction

_LOGGER = logging.getLogger(__name__)
# How often a part is checked, and when it has converged: by no check of so many in a row has the
# error on the validation images become smaller by this factor.
_CHECKS = 10
_PATIENCE = 3
_PROGRESS = 0.995
# The rounding counts as decided when fewer weights than this are between two levels.
_UNDECIDED = 1e-3


@dataclass(frozen=True)
class PartReport:
    """What became of one part.

    Attributes:
        name: Of the part.
        before: Error on the validation images before, relative to the size of the outputs.
        after: The same afterwards.
        iterations: Steps that were taken.
        problem: Why the part was rolled back; None if it was not.
    """

    name: str
    before: float
    after: float
    iterations: int
    problem: str | None = None


@dataclass(frozen=True)
class Batch:
    """Tensors of some images.

    Attributes:
        inputs: What the part reads.
        targets: What it returns in the float network, and what the end of the stage does.
        weights: Of the squared errors, as `targets`; None for 1.
    """

    inputs: Sequence[Tensor]
    targets: Sequence[Tensor]
    weights: Sequence[Tensor | None]


@dataclass(frozen=True)
class Samples:
    """The data of one part.

    Attributes:
        training: Indices of the images that are trained on.
        validation: Indices of the others.
        sizes: Of the targets; see `output_error`.
        values: Of the outputs for one image.
        read: Reads images; the generator mixes inputs, without it they are the quantized ones.
    """

    training: Tensor
    validation: Tensor
    sizes: Sequence[float]
    values: int
    read: Callable[[Tensor, torch.Generator | None], Batch]


class PartTrainer:
    """Learns one part.

    Args:
        part: The part.
        tail: What follows it in its stage, in float; None for nothing.
        samples: Its data.
        method: How.
        generator: Of all random numbers, on the CPU.
        outcome: The error of the network's outputs with a given part in it, on images that judge.
    """

    def __init__(
        self,
        part: LearnedPart,
        tail: GraphModule | None,
        samples: Samples,
        method: Reconstruction,
        generator: torch.Generator,
        outcome: Callable[[GraphModule], float],
    ) -> None:
        self._outcome = outcome
        self._part = part
        self._tail = tail
        self._samples = samples
        self._method = method
        self._generator = generator

    def run(self, name: str, show: Callable[[int, float], None]) -> PartReport:
        """Learn, and leave the part in the best state that was met.

        Args:
            name: Of the part, for the report.
            show: Told the iteration and the validation error now and then.
        """
        part, method = self._part, self._method
        before = best = self.validation_error()
        outcome = self._outcome_now()
        start = state = part.state()
        stale, problem = 0, None
        every = max(1, method.iterations // _CHECKS)
        iteration = 0
        for iteration, loss in enumerate(self._steps(before), 1):
            if not math.isfinite(loss):
                problem = f"its loss or a gradient became infinite or NaN in step {iteration}"
                _LOGGER.warning("%s was rolled back: %s", name, problem)
                break
            if iteration % every and iteration < method.iterations:
                continue
            error = self.validation_error()
            stale = 0 if error < _PROGRESS * best else stale + 1
            if error < best:
                best, state = error, part.state()
            show(iteration, error)
            if stale >= _PATIENCE and self._is_decided():
                break
        part.restore(state)
        if best < before:
            learned = self._outcome_now()
            if not learned <= outcome:
                part.restore(start)
                best = before
                problem = f"it raised the error of the network from {outcome:.3g} to {learned:.3g}"
        elif iteration and problem is None:
            problem = f"its error on the validation images did not fall below {before:.3g}"
        part.harden(hard=True)
        return PartReport(name, before, best, iteration, problem)

    @torch.no_grad()
    def validation_error(self) -> float:
        """The error of the part as it would be converted now, on the validation images."""
        self._part.harden(hard=True)
        total, images = 0.0, self._samples.validation
        for chosen in images.split(self._batch_size()):
            batch = self._samples.read(chosen, None)
            total += float(self._loss(batch)) * len(chosen)
        self._part.harden(hard=False)
        return total / len(images)

    def _outcome_now(self) -> float:
        self._part.harden(hard=True)
        error = self._outcome(self._part.module)
        self._part.harden(hard=False)
        return error

    def _steps(self, before: float) -> Iterator[float]:
        method, part = self._method, self._part
        if not part.groups or not method.iterations:
            return
        device = part.groups[0]["params"][0].device
        optimizer = torch.optim.Adam(part.groups, fused=device.type in ("cpu", "cuda"))
        rates = [group["lr"] for group in optimizer.param_groups]
        part.set_keep(method.keep, self._generator)
        start = max(before, torch.finfo(torch.float32).tiny)
        parameters = [p for group in part.groups for p in group["params"]]
        for iteration in range(method.iterations):
            done = iteration / method.iterations
            part.set_beta(self._beta(done))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                is_rounding = group["params"][0].dim() > 1
                group["lr"] = rate if is_rounding else rate * (1 + math.cos(math.pi * done)) / 2
            loss = self._loss(self._samples.read(self._draw(), self._generator))
            optimizer.zero_grad()
            # Relative to where it started: then one weight of the regularizer suits all parts.
            (loss / start + method.rounding_weight * part.regularizer()).backward()
            gradient = torch.nn.utils.get_total_norm(
                [p.grad for p in parameters if p.grad is not None]
            )
            if not (loss + gradient).isfinite():
                yield math.nan
                return
            optimizer.step()
            yield float(loss.detach())

    def _draw(self) -> Tensor:
        order = torch.randperm(len(self._samples.training), generator=self._generator)
        return self._samples.training[order[: self._batch_size()]]

    def _batch_size(self) -> int:
        fitting = max(1, self._method.batch_values // self._samples.values)
        return min(self._method.batch_size, fitting)

    def _beta(self, done: float) -> float | None:
        warm_up, (first, last) = self._method.warm_up, self._method.rounding_power
        if done < warm_up:
            return None
        return first + (last - first) * (done - warm_up) / (1 - warm_up)

    def _loss(self, batch: Batch) -> Tensor:
        outputs = self._part.module(*batch.inputs)
        error = output_error(
            outputs, batch.targets[: len(outputs)], self._samples.sizes[: len(outputs)],
            self._method.loss.power, batch.weights,
        )  # fmt: skip
        if self._tail is None:
            return error
        ends = self._tail(*outputs)
        behind = output_error(
            ends, batch.targets[len(outputs) :], self._samples.sizes[len(outputs) :],
            self._method.loss.power, [None] * len(ends),
        )  # fmt: skip
        return error + self._method.across_blocks * behind

    def _is_decided(self) -> bool:
        return self._method.rounding_rate == 0 or self._part.undecided() < _UNDECIDED
