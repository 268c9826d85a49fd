"""One exact, mergeable histogram for each channel of a tensor."""

from torch import Tensor

from .ranges.histogram import TensorHistogram
from .ranges.histogram_state import HistogramState

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
        self._state = HistogramState((channels,), CHANNEL_BINS_PER_SIDE)

    @property
    def counts(self) -> Tensor:
        """int64 ``[channels, 2 * CHANNEL_BINS_PER_SIDE]``, on the CPU."""
        return self._state.read().counts

    @property
    def zeros(self) -> Tensor:
        """How many values of each channel are exactly 0: int64 ``[channels]``, on the CPU."""
        return self._state.read().zeros

    @property
    def exponents(self) -> Tensor:
        """Bins of channel `i` are ``2**exponents[i]`` wide: int64 ``[channels]``, on the CPU."""
        return self._state.read().exponents

    @property
    def batch_ranges(self) -> list[tuple[Tensor, Tensor]]:
        """Smallest and largest value of each channel, ``[channels]``, in each update."""
        return self._state.read().batch_ranges

    def __len__(self) -> int:
        return len(self._state.counts)

    def update(self, values: Tensor) -> None:
        """Count every element of `values`, a floating-point tensor on any device.

        On a GPU nothing waits for the counts, and refusals come when an attribute is next read.

        Raises:
            CalibrationError: `values` holds NaN or infinity; nothing was counted.
            TypeError: `values` is not floating-point.
            ValueError: `values` has another number of channels.
        """
        if not values.is_floating_point():
            raise TypeError(
                f"ChannelHistograms: values must be floating-point, got {values.dtype}."
            )
        has_axis = -values.dim() <= self.axis < values.dim()
        if not has_axis or values.shape[self.axis] != len(self):
            raise ValueError(
                f"ChannelHistograms: expected {len(self)} channels along axis {self.axis}, "
                f"got shape {tuple(values.shape)}."
            )
        self._state.update(values, self.axis)

    def merge(self, other: "ChannelHistograms") -> None:
        """Add the counts of `other`, as if its data had been counted here after our own."""
        if len(self) != len(other):
            raise ValueError(f"merge: the histograms have {len(self)} and {len(other)} channels.")
        self._state.merge(other._state)

    def row(self, channel: int) -> TensorHistogram:
        """The histogram of one channel, for a range rule; later updates do not change it."""
        return TensorHistogram.of_state(self._state.row(channel))
