"""The range over which quantizing the data of a histogram costs least."""

import torch
from torch import Tensor

from .grid import AffineParameters, Grid, affine_parameters
from .histogram import TensorHistogram
from .quantization_error import QuantizationError, integrals_of_side, sides_of

# Candidate thresholds fall geometrically from the largest magnitude. Steps of two percent are finer
# than any loss here can tell apart; a factor of 2000 reaches past the worst published outliers.
_CANDIDATE_RATIO = 0.98
_CANDIDATES = 376
# The search over both ends takes every third of these scales with so many zero points, evaluates
# the best of them once more, and then every scale and zero point up to two steps from the winner.
_STRIDE = 3
_ZERO_POINTS = 256
_FINALISTS = 16
_STEPS = range(-2, 3)


def best_range(
    histogram: TensorHistogram, grid: Grid, error: QuantizationError, *, symmetric: bool
) -> tuple[float, float]:
    """The range with the smallest error; of equals the widest.

    One threshold ``T`` is searched first, the range being what was seen, clipped to ``[-T, T]``.
    Two-sided data on an asymmetric grid is then searched over scale and zero point together, so
    that each end may clip at its own magnitude; such a range replaces the first only if it costs
    less.
    """
    largest = histogram.largest_magnitude
    thresholds = [largest * _CANDIDATE_RATIO**step for step in range(_CANDIDATES)]
    ranges = [histogram.range_within(-threshold, threshold) for threshold in thresholds]
    parameters = [affine_parameters(*ends, grid, symmetric=symmetric) for ends in ranges]
    losses = range_losses(histogram, parameters, grid, error)
    best = int(losses.argmin())
    if symmetric or not histogram.is_two_sided:
        return ranges[best]
    joint, joint_loss = _joint_search(histogram, [each.scale for each in parameters], grid, error)
    return joint.real_range(grid) if joint_loss < losses[best] else ranges[best]


def range_losses(
    histogram: TensorHistogram,
    candidates: list[AffineParameters],
    grid: Grid,
    error: QuantizationError,
) -> Tensor:
    """The error of each candidate, float64 ``[len(candidates)]``, in units of the span."""
    sides = sides_of(histogram)
    scales = _in_spans([candidate.scale for candidate in candidates], histogram)
    zero_points = torch.tensor([candidate.zero_point for candidate in candidates])[:, None]
    below = integrals_of_side(error, sides[0], scales, zero_points - grid.quant_min)
    above = integrals_of_side(error, sides[1], scales, grid.quant_max - zero_points)
    return error.combine(below + above, sides)[:, 0]


def _joint_search(
    histogram: TensorHistogram, scales: list[float], grid: Grid, error: QuantizationError
) -> tuple[AffineParameters, float]:
    """The best scale with the best zero point, and the error there."""
    finalists = _finalists(histogram, scales[::_STRIDE], grid, error)
    winner = finalists[int(range_losses(histogram, finalists, grid, error).argmin())]
    row = scales.index(winner.scale)
    rows = [row + step for step in _STEPS if 0 <= row + step < len(scales)]
    zero_points = [winner.zero_point + step for step in _STEPS]
    neighbours = [
        AffineParameters(scales[row], zero_point)
        for row in rows
        for zero_point in zero_points
        if grid.quant_min <= zero_point <= grid.quant_max
    ]
    losses = range_losses(histogram, neighbours, grid, error)
    best = int(losses.argmin())
    return neighbours[best], losses[best].item()


def _finalists(
    histogram: TensorHistogram, scales: list[float], grid: Grid, error: QuantizationError
) -> list[AffineParameters]:
    """The most promising scales, widest first, each with its best zero point."""
    sides = sides_of(histogram)
    stride = -(-(grid.quant_max - grid.quant_min + 1) // _ZERO_POINTS)
    zero_points = torch.arange(grid.quant_min, grid.quant_max + 1, stride)
    spans = _in_spans(scales, histogram)
    below = integrals_of_side(error, sides[0], spans, zero_points - grid.quant_min)
    above = integrals_of_side(error, sides[1], spans, grid.quant_max - zero_points)
    losses, best = error.combine(below + above, sides).min(dim=1)
    rows = losses.topk(_FINALISTS, largest=False).indices.sort().values
    return [AffineParameters(scales[row], int(zero_points[best[row]])) for row in rows.tolist()]


def _in_spans(scales: list[float], histogram: TensorHistogram) -> Tensor:
    # A power of two: no rounding, and no power of a scale leaves float64.
    span = histogram.bins_per_side * histogram.width
    return torch.tensor(scales, dtype=torch.float64) / span
