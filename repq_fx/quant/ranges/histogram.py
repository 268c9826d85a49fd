"""An exact, mergeable histogram of everything an observer has seen."""

import torch
from torch import Tensor

from .histogram_state import HistogramState

BINS_PER_SIDE = 4096


class TensorHistogram:
    """Counts over bins ``[i * width, (i + 1) * width)`` on both sides of zero.

    The width is a power of two and only ever doubles, which merges bins pairwise: the counts are
    those of a single pass over all data at the final width, in whatever order and in however many
    parts the data came. Every value is counted, none is sampled. Between half and all of the bins
    of a side cover the largest magnitude seen.

    Args:
        bins_per_side: A power of two from 4 on.
    """

    def __init__(self, bins_per_side: int = BINS_PER_SIDE) -> None:
        self._state = HistogramState(bins_per_side)

    @property
    def counts(self) -> Tensor:
        """int64 ``[2 * bins_per_side]``, on the CPU; those above zero begin in the middle."""
        return self._state.read().counts

    @counts.setter
    def counts(self, counts: Tensor) -> None:
        self._state.read().counts = counts

    @property
    def zeros(self) -> int:
        """How many values are exactly 0; they count in the first bin above zero."""
        return int(self._state.read().zeros)

    @zeros.setter
    def zeros(self, zeros: int) -> None:
        self._state.read().zeros = torch.tensor(zeros)

    @property
    def exponent(self) -> int:
        """The width of every bin is ``2**exponent``."""
        return int(self._state.read().exponent)

    @property
    def lowest(self) -> float:
        """Smallest value seen; ``inf`` before any data."""
        return float(self._state.read().lowest)

    @property
    def highest(self) -> float:
        """Largest value seen; ``-inf`` before any data."""
        return float(self._state.read().highest)

    @property
    def batch_ranges(self) -> list[tuple[float, float]]:
        """Smallest and largest value of each update, in order."""
        return [(float(low), float(high)) for low, high in self._state.read().batch_ranges]

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
        On a GPU nothing waits for the counts, and refusals come when an attribute is next read.

        Raises:
            CalibrationError: `values` holds NaN or infinity; nothing was counted.
            TypeError: `values` is not floating-point.
        """
        if not values.is_floating_point():
            raise TypeError(f"TensorHistogram: values must be floating-point, got {values.dtype}.")
        self._state.update(values)

    def merge(self, other: "TensorHistogram") -> None:
        """Add the counts of `other`, as if its data had been counted here after our own."""
        if self.bins_per_side != other.bins_per_side:
            raise ValueError(
                f"merge: the histograms have {self.bins_per_side} and {other.bins_per_side} bins "
                "on each side."
            )
        self._state.merge(other._state)

    def magnitudes(self) -> Tensor:
        """Histogram of the absolute values: int64 counts ``[bins_per_side]``, from zero up."""
        bins = self.bins_per_side
        return self.counts[bins:] + self.counts[:bins].flip(0)

    def range_within(self, lowest: float, highest: float) -> tuple[float, float]:
        """The part of the range seen that lies within the given one, widened to contain 0."""
        return min(max(self.lowest, lowest), 0.0), max(min(self.highest, highest), 0.0)
