"""An exact, mergeable histogram of everything an observer has seen."""

import math

import torch
from torch import Tensor

from .. import ops
from ..errors import CalibrationError

BINS_PER_SIDE = 4096
SMALLEST_EXPONENT = -126


class TensorHistogram:
    """Counts over bins ``[i * width, (i + 1) * width)`` on both sides of zero.

    The width is a power of two and only ever doubles, which merges bins pairwise: the counts are
    those of a single pass over all data at the final width, in whatever order and in however many
    parts the data came. Every value is counted, none is sampled. Between half and all of the bins
    of a side cover the largest magnitude seen.

    Args:
        bins_per_side: A power of two.

    Attributes:
        counts: int64 ``[2 * bins_per_side]``, on the CPU; zero is the lower edge of the bin in the
            middle.
        zeros: How many of the values in that bin are exactly 0.
        exponent: The width of every bin is ``2**exponent``.
        lowest: Smallest value seen; ``inf`` before any data.
        highest: Largest value seen; ``-inf`` before any data.
        batch_ranges: Smallest and largest value of each update, in order.
    """

    def __init__(self, bins_per_side: int = BINS_PER_SIDE) -> None:
        self.counts = torch.zeros(2 * bins_per_side, dtype=torch.int64)
        self.zeros = 0
        self.exponent = SMALLEST_EXPONENT
        self.lowest = float("inf")
        self.highest = float("-inf")
        self.batch_ranges: list[tuple[float, float]] = []

    @property
    def bins_per_side(self) -> int:
        """Number of bins above zero, and as many below."""
        return len(self.counts) // 2

    @property
    def width(self) -> float:
        """Width of every bin."""
        return 2.0**self.exponent

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted yet."""
        return self.lowest > self.highest

    @property
    def is_two_sided(self) -> bool:
        """Whether values on both sides of zero were seen."""
        return self.lowest < 0.0 < self.highest

    @property
    def largest_magnitude(self) -> float:
        """Largest absolute value seen; 0 before any data."""
        return 0.0 if self.is_empty else max(-self.lowest, self.highest, 0.0)

    def update(self, values: Tensor) -> None:
        """Count every element of `values`, a floating-point tensor of any shape and device.

        A float64 value counts as the float32 number next to it. An empty tensor changes nothing.

        Raises:
            CalibrationError: `values` holds NaN or infinity; nothing was counted.
            TypeError: `values` is not floating-point.
        """
        if not values.is_floating_point():
            raise TypeError(f"TensorHistogram: values must be floating-point, got {values.dtype}.")
        if values.numel() == 0:
            return
        values = values.float()
        lowest, highest = (bound.item() for bound in torch.aminmax(values))
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise CalibrationError("a tensor holds NaN or infinite values.")
        largest = max(abs(lowest), abs(highest))
        self._widen_to(max(self.exponent, smallest_exponent(largest, self.bins_per_side)))
        one_sided = lowest >= 0.0
        bins = self.bins_per_side if one_sided else 2 * self.bins_per_side
        span = self.bins_per_side * self.width
        counted = ops.histogram(values, bins, 0.0 if one_sided else -span, span)
        self.counts[-bins:] += counted.cpu()
        if lowest <= 0.0 <= highest:
            self.zeros += int(values.logical_not().count_nonzero())
        self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, highest)
        self.batch_ranges.append((lowest, highest))

    def merge(self, other: "TensorHistogram") -> None:
        """Add the counts of `other`, as if its data had been counted here after our own."""
        if self.bins_per_side != other.bins_per_side:
            raise ValueError(
                f"merge: the histograms have {self.bins_per_side} and {other.bins_per_side} bins "
                "on each side."
            )
        self._widen_to(max(self.exponent, other.exponent))
        self.counts += merge_bins(other.counts, torch.tensor(self.exponent - other.exponent))
        self.zeros += other.zeros
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        self.batch_ranges += other.batch_ranges

    def magnitudes(self) -> Tensor:
        """Histogram of the absolute values: int64 counts ``[bins_per_side]``, from zero up."""
        bins = self.bins_per_side
        return self.counts[bins:] + self.counts[:bins].flip(0)

    def range_within(self, lowest: float, highest: float) -> tuple[float, float]:
        """The part of the range seen that lies within the given one, widened to contain 0."""
        return min(max(self.lowest, lowest), 0.0), max(min(self.highest, highest), 0.0)

    def _widen_to(self, exponent: int) -> None:
        if exponent > self.exponent:
            self.counts = merge_bins(self.counts, torch.tensor(exponent - self.exponent))
            self.exponent = exponent


def smallest_exponent(magnitude: float, bins_per_side: int) -> int:
    """The least ``e >= -126`` for which `bins_per_side` bins of ``2**e`` hold `magnitude`."""
    if magnitude == 0.0:
        return SMALLEST_EXPONENT
    return max(math.frexp(magnitude)[1] - bins_per_side.bit_length() + 1, SMALLEST_EXPONENT)


def merge_bins(counts: Tensor, doublings: Tensor) -> Tensor:
    """The counts over bins that are ``2**doublings`` times as wide.

    Args:
        counts: int64 ``[..., 2 * bins_per_side]``, not changed.
        doublings: int64 ``[...]``, not negative.

    Returns:
        A new tensor shaped like `counts`.
    """
    side = counts.shape[-1] // 2
    merged = torch.arange(-side, side) >> doublings.clamp(max=62).unsqueeze(-1)
    return torch.zeros_like(counts).scatter_add_(-1, merged + side, counts)
