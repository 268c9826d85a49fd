"""An exact, mergeable histogram of everything an observer has seen."""

import torch
from torch import Tensor

from ...errors import CalibrationError
from ...ops import merge_bins, update_histogram
from ...ops.update_histogram import SMALLEST_EXPONENT

BINS_PER_SIDE = 4096
_COUNTED_AS_THEY_ARE = (torch.float32, torch.bfloat16, torch.float16)


class TensorHistogram:
    """Counts over bins ``[i * width, (i + 1) * width)`` on both sides of zero.

    The width is a power of two and only ever doubles, which merges bins pairwise: the counts are
    those of a single pass over all data at the final width, in whatever order and in however many
    parts the data came. Every value is counted, none is sampled. Between half and all of the bins
    of a side cover the largest magnitude seen.

    Counts stay on the device of the data. On a GPU an update starts kernels and waits for none;
    reading an attribute then waits, brings everything to the CPU, and reports what was wrong with
    the data: `CalibrationError`, if an update since the last reading held NaN or infinity. It was
    not counted, all others were.

    Args:
        bins_per_side: A power of two from 4 on.
    """

    def __init__(self, bins_per_side: int = BINS_PER_SIDE) -> None:
        self._counts = torch.zeros(2 * bins_per_side, dtype=torch.int64)
        self._exponent = torch.tensor(SMALLEST_EXPONENT)
        self._zeros = torch.tensor(0)
        self._lowest = torch.tensor(torch.inf)
        self._highest = torch.tensor(-torch.inf)
        self._batch_ranges: list[tuple[Tensor, Tensor]] = []
        self._unread: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def counts(self) -> Tensor:
        """int64 ``[2 * bins_per_side]``, on the CPU; those above zero begin in the middle."""
        return self._read()._counts

    @counts.setter
    def counts(self, counts: Tensor) -> None:
        self._read()._counts = counts

    @property
    def zeros(self) -> int:
        """How many values are exactly 0; they count in the first bin above zero."""
        return int(self._read()._zeros)

    @zeros.setter
    def zeros(self, zeros: int) -> None:
        self._read()._zeros = torch.tensor(zeros)

    @property
    def exponent(self) -> int:
        """The width of every bin is ``2**exponent``."""
        return int(self._read()._exponent)

    @property
    def lowest(self) -> float:
        """Smallest value seen; ``inf`` before any data."""
        return float(self._read()._lowest)

    @property
    def highest(self) -> float:
        """Largest value seen; ``-inf`` before any data."""
        return float(self._read()._highest)

    @property
    def batch_ranges(self) -> list[tuple[float, float]]:
        """Smallest and largest value of each update, in order."""
        return [(float(low), float(high)) for low, high in self._read()._batch_ranges]

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
        if values.numel() == 0:
            return
        if values.dtype not in _COUNTED_AS_THEY_ARE:
            values = values.float()
        self._move_to(values.device)
        self._unread.append(update_histogram(self._counts, self._exponent, self._zeros, values))
        if values.device.type == "cpu":
            self._read()

    def merge(self, other: "TensorHistogram") -> None:
        """Add the counts of `other`, as if its data had been counted here after our own."""
        if self.bins_per_side != other.bins_per_side:
            raise ValueError(
                f"merge: the histograms have {self.bins_per_side} and {other.bins_per_side} bins "
                "on each side."
            )
        exponent = torch.maximum(self._read()._exponent, other._read()._exponent)
        counts = [merge_bins(each._counts, exponent - each._exponent) for each in (self, other)]
        self._counts, self._exponent = counts[0] + counts[1], exponent
        self._zeros = self._zeros + other._zeros
        self._include(other._lowest, other._highest)
        self._batch_ranges += other._batch_ranges

    def magnitudes(self) -> Tensor:
        """Histogram of the absolute values: int64 counts ``[bins_per_side]``, from zero up."""
        bins = self.bins_per_side
        return self.counts[bins:] + self.counts[:bins].flip(0)

    def range_within(self, lowest: float, highest: float) -> tuple[float, float]:
        """The part of the range seen that lies within the given one, widened to contain 0."""
        return min(max(self.lowest, lowest), 0.0), max(min(self.highest, highest), 0.0)

    def _read(self) -> "TensorHistogram":
        """This histogram, on the CPU, with all bounds of updates among its own."""
        self._move_to(torch.device("cpu"))
        unread, self._unread = self._unread, []
        error: CalibrationError | None = None
        for lowest, highest, non_finite in unread:
            if non_finite.any():
                error = error or CalibrationError("a tensor holds NaN or infinite values.")
                continue
            batch_range = (lowest.cpu(), highest.cpu())
            self._batch_ranges.append(batch_range)
            self._include(*batch_range)
        if error is not None:
            raise error
        return self

    def _include(self, lowest: Tensor, highest: Tensor) -> None:
        self._lowest = torch.minimum(self._lowest, lowest)
        self._highest = torch.maximum(self._highest, highest)

    def _move_to(self, device: torch.device) -> None:
        if self._counts.device != device:
            self._counts, self._exponent, self._zeros = (
                each.to(device) for each in (self._counts, self._exponent, self._zeros)
            )
