"""An exact, mergeable histogram of everything an observer has seen."""

import torch
from torch import Tensor

from .. import ops
from ..errors import CalibrationError

BINS_PER_SIDE = 4096
_SMALLEST_EXPONENT = -126


class TensorHistogram:
    """Counts over bins ``[i * width, (i + 1) * width)`` on both sides of zero.

    The width is a power of two and only ever doubles, which merges bins pairwise: the counts are
    those of a single pass over all data at the final width, in whatever order and in however many
    parts the data came. Between `BINS_PER_SIDE` / 2 and `BINS_PER_SIDE` bins cover the largest
    magnitude seen.

    Attributes:
        counts: int64 ``[2 * BINS_PER_SIDE]``, on the CPU; zero is the lower edge of the bin in the
            middle.
        lowest: Smallest value seen; ``inf`` before any data.
        highest: Largest value seen; ``-inf`` before any data.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(2 * BINS_PER_SIDE, dtype=torch.int64)
        self.lowest = float("inf")
        self.highest = float("-inf")
        self._exponent = _SMALLEST_EXPONENT

    @property
    def width(self) -> float:
        """Width of every bin."""
        return 2.0**self._exponent

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted yet."""
        return self.lowest > self.highest

    @property
    def largest_magnitude(self) -> float:
        """Largest absolute value seen; 0 before any data."""
        return 0.0 if self.is_empty else max(-self.lowest, self.highest, 0.0)

    def update(self, values: Tensor) -> None:
        """Count every element of `values`, a floating-point tensor of any shape and device.

        Raises:
            CalibrationError: `values` holds NaN or infinity; nothing was counted.
        """
        if values.numel() == 0:
            return
        lowest, highest = (bound.item() for bound in torch.aminmax(values))
        if not (abs(lowest) < float("inf") and abs(highest) < float("inf")):
            raise CalibrationError("a tensor holds NaN or infinite values.")
        self._widen_to(max(abs(lowest), abs(highest)))
        one_sided = lowest >= 0.0
        bins = BINS_PER_SIDE if one_sided else 2 * BINS_PER_SIDE
        span = BINS_PER_SIDE * self.width
        counted = ops.histogram(values, bins, 0.0 if one_sided else -span, span)
        self.counts[-bins:] += counted.cpu()
        self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, highest)

    def merge(self, other: "TensorHistogram") -> None:
        """Add the counts of `other`, as if its data had been counted here."""
        self._rescale(max(self._exponent, other._exponent))
        self.counts += other._counts_at(self._exponent)
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)

    def occupied(self) -> tuple[Tensor, Tensor]:
        """Edges ``[n + 1]`` and counts ``[n]`` from the first to the last bin that is not empty.

        Both are float64.

        Raises:
            ValueError: The histogram is empty.
        """
        if self.is_empty:
            raise ValueError("occupied: the histogram is empty.")
        filled = self.counts.nonzero()
        first, last = int(filled[0]), int(filled[-1])
        edges = torch.arange(first, last + 2, dtype=torch.float64) - BINS_PER_SIDE
        return edges * self.width, self.counts[first : last + 1].double()

    def magnitudes(self) -> Tensor:
        """Histogram of the absolute values: int64 counts ``[BINS_PER_SIDE]``, from zero up."""
        return self.counts[BINS_PER_SIDE:] + self.counts[:BINS_PER_SIDE].flip(0)

    def _widen_to(self, magnitude: float) -> None:
        exponent = self._exponent
        while BINS_PER_SIDE * 2.0**exponent <= magnitude:
            exponent += 1
        self._rescale(exponent)

    def _rescale(self, exponent: int) -> None:
        self.counts = self._counts_at(exponent)
        self._exponent = exponent

    def _counts_at(self, exponent: int) -> Tensor:
        """The counts at a width ``2**exponent`` not smaller than the present one."""
        if exponent == self._exponent:
            return self.counts
        indices = torch.arange(-BINS_PER_SIDE, BINS_PER_SIDE)
        merged = indices >> min(exponent - self._exponent, 62)
        return torch.zeros_like(self.counts).index_add_(0, merged + BINS_PER_SIDE, self.counts)
