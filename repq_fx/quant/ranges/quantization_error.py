"""Measures of what quantizing a tensor costs."""

from dataclasses import dataclass

from torch import Tensor

from ... import ops
from ..grid import Grid
from .histogram import TensorHistogram


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
