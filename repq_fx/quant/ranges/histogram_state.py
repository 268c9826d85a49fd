"""Counts that stay on the device of the data until they are read."""

import torch
from torch import Tensor

from ...errors import CalibrationError
from ...ops import merge_bins, update_histogram
from ...ops.update_histogram import SMALLEST_EXPONENT

_COUNTED_AS_THEY_ARE = (torch.float32, torch.bfloat16, torch.float16)


class HistogramState:
    """What `TensorHistogram` is a view of.

    On a GPU an update starts kernels and waits for none. `read` then waits, brings everything to
    the CPU, and reports what was wrong with the data.

    Args:
        bins_per_side: A power of two from 4 on.

    Attributes:
        counts: int64 ``[2 * bins_per_side]``.
        exponent: int64 ``[]``; the width of every bin is ``2**exponent``.
        zeros: int64 ``[]``; how many values were exactly 0.
        lowest: float32 ``[]``; smallest value seen, `inf` before any data.
        highest: float32 ``[]``; largest value seen, `-inf` before any data.
        batch_ranges: Smallest and largest value of each update, in order.
    """

    def __init__(self, bins_per_side: int) -> None:
        self.counts = torch.zeros(2 * bins_per_side, dtype=torch.int64)
        self.exponent = torch.tensor(SMALLEST_EXPONENT)
        self.zeros = torch.tensor(0)
        self.lowest = torch.tensor(torch.inf)
        self.highest = torch.tensor(-torch.inf)
        self.batch_ranges: list[tuple[Tensor, Tensor]] = []
        self._unread: list[tuple[Tensor, Tensor, Tensor]] = []

    def update(self, values: Tensor) -> None:
        """Count every element of `values`, a floating-point tensor on any device.

        Raises:
            CalibrationError: `values` is on the CPU and holds NaN or infinity; nothing was counted.
        """
        if values.numel() == 0:
            return
        if values.dtype not in _COUNTED_AS_THEY_ARE:
            values = values.float()
        self._move_to(values.device)
        bounds = update_histogram(self.counts, self.exponent, self.zeros, values)
        self._unread.append(bounds)
        if values.device.type == "cpu":
            self.read()

    def read(self) -> "HistogramState":
        """This state, on the CPU.

        Raises:
            CalibrationError: An update since the last call held NaN or infinity; it was not
                counted, all others were.
        """
        self._move_to(torch.device("cpu"))
        unread, self._unread = self._unread, []
        error: CalibrationError | None = None
        for lowest, highest, non_finite in unread:
            if non_finite.any():
                error = error or CalibrationError("a tensor holds NaN or infinite values.")
                continue
            batch_range = (lowest.cpu(), highest.cpu())
            self.batch_ranges.append(batch_range)
            self._include(*batch_range)
        if error is not None:
            raise error
        return self

    def merge(self, other: "HistogramState") -> None:
        """Add the counts of `other`, as if its data had been counted here after our own."""
        self.read()
        other.read()
        exponent = torch.maximum(self.exponent, other.exponent)
        counts = [merge_bins(each.counts, exponent - each.exponent) for each in (self, other)]
        self.counts, self.exponent = counts[0] + counts[1], exponent
        self.zeros = self.zeros + other.zeros
        self._include(other.lowest, other.highest)
        self.batch_ranges += other.batch_ranges

    def _include(self, lowest: Tensor, highest: Tensor) -> None:
        self.lowest = torch.minimum(self.lowest, lowest)
        self.highest = torch.maximum(self.highest, highest)

    def _move_to(self, device: torch.device) -> None:
        if self.counts.device != device:
            self.counts, self.exponent, self.zeros = (
                each.to(device) for each in (self.counts, self.exponent, self.zeros)
            )
