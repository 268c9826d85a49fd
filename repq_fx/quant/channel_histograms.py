"""One exact, mergeable histogram for each channel of a tensor."""

import torch
from torch import Tensor

from ..errors import CalibrationError
from .histogram import SMALLEST_EXPONENT, TensorHistogram, merge_bins, smallest_exponent

# A quarter of a `TensorHistogram`: 2,048 channels take 32 MiB, and each still has at least two bins
# for each level of an 8-bit grid.
CHANNEL_BINS_PER_SIDE = 1024


class ChannelHistograms:
    """The counts of `TensorHistogram`, apart for each index along one axis.

    Each channel has its own bin width, so a channel with small values is resolved as finely as one
    with large values. `row` hands one channel to a range rule.

    Args:
        channels: Size of the axis.
        axis: Which axis of the observed tensors; 1 is that of the channels of ``[N, C, ...]``.
    """

    def __init__(self, channels: int, axis: int = 1) -> None:
        self.axis = axis
        self.counts = torch.zeros(channels, 2 * CHANNEL_BINS_PER_SIDE, dtype=torch.int64)
        self.zeros = torch.zeros(channels, dtype=torch.int64)
        self.exponents = torch.full((channels,), SMALLEST_EXPONENT)
        self.batch_ranges: list[tuple[Tensor, Tensor]] = []

    def __len__(self) -> int:
        return len(self.counts)

    def update(self, values: Tensor) -> None:
        """Count every element of `values`, a floating-point tensor on any device.

        Raises:
            CalibrationError: `values` holds NaN or infinity; nothing was counted.
            TypeError: `values` is not floating-point.
            ValueError: `values` has another number of channels.
        """
        if not values.is_floating_point():
            raise TypeError(
                f"ChannelHistograms: values must be floating-point, got {values.dtype}."
            )
        rows = values.detach().float().movedim(self.axis, 0)
        if len(rows) != len(self):
            raise ValueError(
                f"ChannelHistograms: expected {len(self)} channels along axis {self.axis}, "
                f"got shape {tuple(values.shape)}."
            )
        if rows.numel() == 0:
            return
        rows = rows.reshape(len(self), -1)
        lowest, highest = (bound.cpu() for bound in torch.aminmax(rows, dim=1))
        unusable = ~(lowest.isfinite() & highest.isfinite())
        if unusable.any():
            channel = int(unusable.nonzero()[0])
            raise CalibrationError(f"channel {channel} of a tensor holds NaN or infinite values.")
        self._widen_to(_exponents_of(torch.maximum(lowest.abs(), highest.abs())))
        self.counts += self._counted(rows).cpu()
        self.zeros += rows.logical_not().count_nonzero(1).cpu()
        self.batch_ranges.append((lowest, highest))

    def merge(self, other: "ChannelHistograms") -> None:
        """Add the counts of `other`, as if its data had been counted here after our own."""
        if len(self) != len(other):
            raise ValueError(f"merge: the histograms have {len(self)} and {len(other)} channels.")
        self._widen_to(other.exponents)
        self.counts += merge_bins(other.counts, self.exponents - other.exponents)
        self.zeros += other.zeros
        self.batch_ranges += other.batch_ranges

    def row(self, channel: int) -> TensorHistogram:
        """The histogram of one channel, for a range rule; later updates do not change it."""
        histogram = TensorHistogram(CHANNEL_BINS_PER_SIDE)
        histogram.counts = self.counts[channel].clone()
        histogram.zeros = int(self.zeros[channel])
        histogram.exponent = int(self.exponents[channel])
        histogram.batch_ranges = [
            (lowest[channel].item(), highest[channel].item())
            for lowest, highest in self.batch_ranges
        ]
        for lowest, highest in histogram.batch_ranges:
            histogram.lowest = min(histogram.lowest, lowest)
            histogram.highest = max(histogram.highest, highest)
        return histogram

    def _widen_to(self, exponents: Tensor) -> None:
        widened = torch.maximum(self.exponents, exponents)
        self.counts = merge_bins(self.counts, widened - self.exponents)
        self.exponents = widened

    def _counted(self, rows: Tensor) -> Tensor:
        # Powers of two: the product is exact, and so is the bin.
        inverse_widths = [2.0**-exponent for exponent in self.exponents.tolist()]
        scaled = rows * torch.tensor(inverse_widths, device=rows.device)[:, None]
        # A negative value must not underflow to zero, which lies in the bin above.
        negative = scaled.clamp_max(-torch.finfo(torch.float32).tiny)
        bins = torch.where(rows < 0, negative, scaled).floor_().long()
        starts = torch.arange(len(rows), device=rows.device) * 2 * CHANNEL_BINS_PER_SIDE
        bins += (starts + CHANNEL_BINS_PER_SIDE)[:, None]
        return torch.bincount(bins.flatten(), minlength=self.counts.numel()).view_as(self.counts)


def _exponents_of(magnitudes: Tensor) -> Tensor:
    exponents = [smallest_exponent(value, CHANNEL_BINS_PER_SIDE) for value in magnitudes.tolist()]
    return torch.tensor(exponents)
