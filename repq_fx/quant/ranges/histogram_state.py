"""Counts that stay on the device of the data until they are read."""

import torch
from torch import Tensor

from ...errors import CalibrationError
from ...ops import merge_bins, update_histogram
from ...ops.update_histogram import SMALLEST_EXPONENT

_COUNTED_AS_THEY_ARE = (torch.float32, torch.bfloat16, torch.float16)


class HistogramState:
    """What `TensorHistogram` and `ChannelHistograms` are views of: one or several rows of bins.

    On a GPU an update starts kernels and waits for none. `read` then waits, brings everything to
    the CPU, and reports what was wrong with the data.

    Args:
        rows: Empty for one histogram, else ``[channels]``.
        bins_per_side: A power of two from 4 on.

    Attributes:
        counts: int64 ``[*rows, 2 * bins_per_side]``.
        exponents: int64 ``[*rows]``; the width of every bin of a row is ``2**exponent``.
        zeros: int64 ``[*rows]``; how many values were exactly 0.
        lowest: float32 ``[*rows]``; smallest value seen, `inf` before any data.
        highest: float32 ``[*rows]``; largest value seen, `-inf` before any data.
        batch_ranges: Smallest and largest values of each update, in order.
    """

    def __init__(self, rows: tuple[int, ...], bins_per_side: int) -> None:
        self.counts = torch.zeros(*rows, 2 * bins_per_side, dtype=torch.int64)
        self.exponents = torch.full(rows, SMALLEST_EXPONENT)
        self.zeros = torch.zeros(rows, dtype=torch.int64)
        self.lowest = torch.full(rows, torch.inf)
        self.highest = torch.full(rows, -torch.inf)
        self.batch_ranges: list[tuple[Tensor, Tensor]] = []
        self._unread: list[tuple[Tensor, Tensor, Tensor]] = []

    def update(self, values: Tensor, axis: int | None) -> None:
        """Count every element of `values`, a floating-point tensor on any device.

        Raises:
            CalibrationError: `values` is on the CPU and holds NaN or infinity; nothing was counted.
        """
        if values.numel() == 0:
            return
        if values.dtype not in _COUNTED_AS_THEY_ARE:
            values = values.float()
        self._move_to(values.device)
        bounds = update_histogram(self.counts, self.exponents, self.zeros, values, axis)
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
                error = error or CalibrationError(_refusal(non_finite.cpu()))
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
        exponents = torch.maximum(self.exponents, other.exponents)
        counts = [merge_bins(each.counts, exponents - each.exponents) for each in (self, other)]
        self.counts, self.exponents = counts[0] + counts[1], exponents
        self.zeros = self.zeros + other.zeros
        self._include(other.lowest, other.highest)
        self.batch_ranges += other.batch_ranges

    def row(self, index: int) -> "HistogramState":
        """A copy of one row, as a state without rows."""
        self.read()
        row = HistogramState((), self.counts.shape[-1] // 2)
        for name in ("counts", "exponents", "zeros", "lowest", "highest"):
            setattr(row, name, getattr(self, name)[index].clone())
        row.batch_ranges = [(low[index], high[index]) for low, high in self.batch_ranges]
        return row

    def _include(self, lowest: Tensor, highest: Tensor) -> None:
        self.lowest = torch.minimum(self.lowest, lowest)
        self.highest = torch.maximum(self.highest, highest)

    def _move_to(self, device: torch.device) -> None:
        if self.counts.device != device:
            self.counts, self.exponents, self.zeros = (
                each.to(device) for each in (self.counts, self.exponents, self.zeros)
            )


def _refusal(non_finite: Tensor) -> str:
    if non_finite.dim() == 0:
        return "a tensor holds NaN or infinite values."
    channel = int(non_finite.nonzero()[0])
    return f"channel {channel} of a tensor holds NaN or infinite values."
