"""Rules that read a histogram and choose the range a tensor is quantized over.

Each rule chooses one magnitude ``T``; the range is what was seen, clipped to ``[-T, T]``. So a
one-sided tensor stays one-sided, and the short negative side of a SiLU is left alone until ``T``
reaches it.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .grid import AffineParameters, Grid, affine_parameters
from .histogram import TensorHistogram

# Candidate thresholds fall geometrically from the largest magnitude. Steps of two percent are finer
# than any loss here can tell apart; a factor of 2000 reaches past the worst published outliers.
_CANDIDATE_RATIO = 0.98
_CANDIDATES = 376


@runtime_checkable
class RangeRule(Protocol):
    """Chooses the threshold of one tensor."""

    def threshold(self, histogram: TensorHistogram, grid: Grid, *, symmetric: bool) -> float:
        """The magnitude ``T`` beyond which values are clipped; `histogram` is not empty."""
        ...


def choose_parameters(
    rule: RangeRule, histogram: TensorHistogram, grid: Grid, *, symmetric: bool
) -> AffineParameters:
    """Scale and zero point of the range that `rule` chooses for the data in `histogram`."""
    threshold = rule.threshold(histogram, grid, symmetric=symmetric)
    return _clipped_parameters(histogram, threshold, grid, symmetric=symmetric)


def _clipped_parameters(
    histogram: TensorHistogram, threshold: float, grid: Grid, *, symmetric: bool
) -> AffineParameters:
    lowest, highest = max(histogram.lowest, -threshold), min(histogram.highest, threshold)
    return affine_parameters(lowest, highest, grid, symmetric=symmetric)


@dataclass(frozen=True)
class MinMax:
    """Keep everything: the range of the values seen."""

    def threshold(
        self,
        histogram: TensorHistogram,
        grid: Grid,  # noqa: ARG002  (the protocol's signature)
        *,
        symmetric: bool,  # noqa: ARG002
    ) -> float:
        """The largest magnitude seen."""
        return histogram.largest_magnitude


@dataclass(frozen=True)
class LpLoss:
    """Minimize the mean ``|x - dequantize(quantize(x))| ** power`` over candidate thresholds.

    The loss is the exact integral for data spread evenly within each bin, so it stays meaningful
    when a quantization step is narrower than a bin. Use the subclasses `MAE` (RepAPQ, arXiv
    2402.16121) and `MSE`.
    """

    power: float

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise ValueError(f"{type(self).__name__}: power must be positive, got {self.power}.")

    def threshold(self, histogram: TensorHistogram, grid: Grid, *, symmetric: bool) -> float:
        """The candidate with the smallest loss; of equals the largest."""
        largest = histogram.largest_magnitude
        candidates = [largest * _CANDIDATE_RATIO**step for step in range(_CANDIDATES)]
        parameters = [
            _clipped_parameters(histogram, candidate, grid, symmetric=symmetric)
            for candidate in candidates
        ]
        losses = quantization_losses(histogram, parameters, grid, self.power)
        return candidates[int(losses.argmin())]


@dataclass(frozen=True)
class MAE(LpLoss):
    """Minimize the mean absolute error: outliers count linearly, so they are clipped sooner."""

    power: float = 1.0


@dataclass(frozen=True)
class MSE(LpLoss):
    """Minimize the mean squared error (`power` 2; BRECQ and QDrop use 2.4)."""

    power: float = 2.0


def quantization_losses(
    histogram: TensorHistogram, candidates: list[AffineParameters], grid: Grid, power: float
) -> Tensor:
    """Summed ``|error| ** power`` of each candidate, float64 ``[len(candidates)]``.

    With F the antiderivative of the error, a bin ``[a, b)`` of n values contributes
    ``n * (F(b) - F(a)) / (b - a)``; the sum over bins is one product of F at all edges with the
    differences of neighbouring counts.
    """
    edges, counts = histogram.occupied()
    padded = torch.nn.functional.pad(counts, (1, 1))
    weights = (padded[:-1] - padded[1:]) / histogram.width
    scale = torch.tensor([[c.scale] for c in candidates], dtype=torch.float64)
    bounds = [candidate.real_range(grid) for candidate in candidates]
    lowest, highest = torch.tensor(bounds, dtype=torch.float64).unbind(1)
    antiderivative = _error_antiderivative(edges, scale, lowest[:, None], highest[:, None], power)
    return antiderivative @ weights


def _error_antiderivative(
    edges: Tensor, scale: Tensor, lowest: Tensor, highest: Tensor, power: float
) -> Tensor:
    """``F(e)``, the integral from 0 to `e` of ``|x - dequantize(quantize(x))| ** power``.

    `edges` is ``[n]``, the others ``[candidates, 1]``. Inside the grid the error is periodic: each
    whole step adds ``2 * (scale / 2) ** (power + 1) / (power + 1)``. Beyond it, it grows from 0.
    """
    inside = edges.clamp(lowest, highest)
    steps = torch.round(inside / scale)
    offset = inside - steps * scale
    beyond = edges - inside
    per_step = 2.0 * (scale / 2.0) ** (power + 1.0)
    partial = _signed_power(offset, power + 1.0) + _signed_power(beyond, power + 1.0)
    return (steps * per_step + partial) / (power + 1.0)


def _signed_power(values: Tensor, exponent: float) -> Tensor:
    return values.abs().pow(exponent).copysign(values)
