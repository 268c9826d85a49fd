"""What quantizing the data of a histogram costs, and the range over which it costs least."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ... import ops
from ..grid import AffineParameters, Grid, affine_parameters_of_each
from .histogram import TensorHistogram

# Candidate thresholds fall geometrically from the largest magnitude. Steps of two percent are finer
# than any loss here can tell apart; a factor of 2000 reaches past the worst published outliers.
_THRESHOLDS = torch.tensor([0.98**step for step in range(376)], dtype=torch.float64)
# The search over both ends takes every third of these scales with so many zero points, evaluates
# the best of them once more, and then every scale and zero point up to two steps from the winner.
_STRIDE = 3
_ZERO_POINTS = 256
_FINALISTS = 16
_STEPS = range(-2, 3)


@dataclass(frozen=True)
class PowerError:
    """The sum of ``|x - y| ** power`` over all values x and what they are quantized to, y.

    In units of the histogram's span: the largest magnitude it holds is 1.
    """

    power: float


@dataclass(frozen=True)
class CosineError:
    """One minus the cosine of the data x and what it is quantized to, y."""


QuantizationError = PowerError | CosineError


def losses_of(
    histogram: TensorHistogram,
    scales: Tensor,
    zero_points: Tensor,
    grid: Grid,
    error: QuantizationError,
) -> Tensor:
    """The error of each scale with each of its zero points: float64 ``[s, z]``.

    Args:
        histogram: The data, spread evenly within each bin; exact zeros cost nothing.
        scales: float64 ``[s]``.
        zero_points: int64 ``[s, z]``.
        grid: The integers to quantize to.
        error: What to measure.
    """
    bins = histogram.bins_per_side
    counts = histogram.counts.double()
    counts[bins] -= histogram.zeros
    power = error.power if isinstance(error, PowerError) else None
    # The width is a power of two: no rounding.
    losses = ops.range_losses(
        counts, scales / histogram.width, zero_points, grid.quant_min, grid.quant_max, power
    )
    return losses if power is None else losses / float(bins) ** power


def best_range(
    histogram: TensorHistogram, grid: Grid, error: QuantizationError, *, symmetric: bool
) -> tuple[float, float]:
    """The range with the smallest error; of equals the widest.

    One threshold ``T`` is searched first, the range being what was seen, clipped to ``[-T, T]``.
    Two-sided data on an asymmetric grid is then searched over scale and zero point together, so
    that each end may clip at its own magnitude; such a range replaces the first only if it costs
    less.
    """
    thresholds = histogram.largest_magnitude * _THRESHOLDS
    scales, zero_points = affine_parameters_of_each(
        (-thresholds).clamp(min=histogram.lowest),
        thresholds.clamp(max=histogram.highest),
        grid,
        symmetric=symmetric,
    )
    losses = losses_of(histogram, scales, zero_points[:, None], grid, error)[:, 0]
    best = int(losses.argmin())
    if not symmetric and histogram.is_two_sided:
        joint, joint_loss = _joint_search(histogram, scales, grid, error)
        if joint_loss < losses[best]:
            return joint.real_range(grid)
    threshold = thresholds[best].item()
    return histogram.range_within(-threshold, threshold)


def range_losses(
    histogram: TensorHistogram,
    candidates: list[AffineParameters],
    grid: Grid,
    error: QuantizationError,
) -> Tensor:
    """The error of each candidate, float64 ``[len(candidates)]``; see `losses_of`."""
    scales = torch.tensor([candidate.scale for candidate in candidates], dtype=torch.float64)
    zero_points = torch.tensor([[candidate.zero_point] for candidate in candidates])
    return losses_of(histogram, scales, zero_points, grid, error)[:, 0]


def _joint_search(
    histogram: TensorHistogram, scales: Tensor, grid: Grid, error: QuantizationError
) -> tuple[AffineParameters, float]:
    """The best scale with the best zero point, and the error there."""
    finalists = _finalists(histogram, scales[::_STRIDE], grid, error)
    winner = finalists[int(range_losses(histogram, finalists, grid, error).argmin())]
    row = int((scales == winner.scale).nonzero()[0])
    near = scales[max(row + _STEPS[0], 0) : row + _STEPS[-1] + 1].tolist()
    zero_points = [winner.zero_point + step for step in _STEPS]
    neighbours = [
        AffineParameters(scale, zero_point)
        for scale in near
        for zero_point in zero_points
        if grid.quant_min <= zero_point <= grid.quant_max
    ]
    losses = range_losses(histogram, neighbours, grid, error)
    best = int(losses.argmin())
    return neighbours[best], losses[best].item()


def _finalists(
    histogram: TensorHistogram, scales: Tensor, grid: Grid, error: QuantizationError
) -> list[AffineParameters]:
    """The most promising scales, widest first, each with its best zero point."""
    stride = -(-(grid.quant_max - grid.quant_min + 1) // _ZERO_POINTS)
    zero_points = torch.arange(grid.quant_min, grid.quant_max + 1, stride)
    pairs = zero_points.expand(len(scales), -1)
    losses, best = losses_of(histogram, scales, pairs, grid, error).min(dim=1)
    rows = losses.topk(_FINALISTS, largest=False).indices.sort().values
    winners = zip(scales[rows].tolist(), zero_points[best[rows]].tolist(), strict=True)
    return [AffineParameters(scale, zero_point) for scale, zero_point in winners]
