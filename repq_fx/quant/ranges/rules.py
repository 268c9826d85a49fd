"""Rules that read a histogram and choose the range a tensor is quantized over.

A range always contains 0, and that of a one-sided tensor ends there.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable

from torch import Tensor

from ...errors import CalibrationError
from ..grid import AffineParameters, Grid, affine_parameters
from .histogram import TensorHistogram
from .search import CosineError, PowerError, best_range

# Powers of numbers in [0, 1] beyond this one leave float64.
_LARGEST_POWER = 16.0


@runtime_checkable
class RangeRule(Protocol):
    """Chooses the range of one tensor."""

    def clip_range(
        self, histogram: TensorHistogram, grid: Grid, *, symmetric: bool
    ) -> tuple[float, float]:
        """Lowest and highest value to represent; what lies beyond is clipped.

        Args:
            histogram: What was seen; not empty.
            grid: The integers to quantize to.
            symmetric: Whether the zero point of two-sided data has to be in the middle of `grid`.

        Returns:
            ``lowest <= 0 <= highest``.
        """
        ...


def choose_parameters(
    rule: RangeRule, histogram: TensorHistogram, grid: Grid, *, symmetric: bool
) -> AffineParameters:
    """Scale and zero point of the range that `rule` chooses for the data in `histogram`.

    Raises:
        CalibrationError: `histogram` is empty.
    """
    if histogram.is_empty:
        raise CalibrationError(f"{rule} cannot choose a range: the tensor was never seen.")
    lowest, highest = rule.clip_range(histogram, grid, symmetric=symmetric)
    return affine_parameters(lowest, highest, grid, symmetric=symmetric)


@dataclass(frozen=True)
class MinMax:
    """Keep everything: the range of the values seen."""

    def clip_range(
        self,
        histogram: TensorHistogram,
        grid: Grid,  # noqa: ARG002  (the protocol's signature)
        *,
        symmetric: bool,  # noqa: ARG002
    ) -> tuple[float, float]:
        """See `RangeRule`."""
        return histogram.range_within(-float("inf"), float("inf"))


@dataclass(frozen=True)
class MovingAverageMinMax:
    """Average the extremes of the batches, so that one batch with an outlier decides less.

    ``end = momentum * end + (1 - momentum) * end of the batch``, from the first batch on, for both
    ends (MQBench ``EMAMinMaxObserver``, momentum 0.9). The result depends on the order of batches.
    """

    momentum: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(
                f"MovingAverageMinMax: momentum must be at least 0 and below 1, "
                f"got {self.momentum!r}."
            )

    def clip_range(
        self,
        histogram: TensorHistogram,
        grid: Grid,  # noqa: ARG002
        *,
        symmetric: bool,  # noqa: ARG002
    ) -> tuple[float, float]:
        """See `RangeRule`."""
        lowest, highest = histogram.batch_ranges[0]
        for batch_lowest, batch_highest in histogram.batch_ranges[1:]:
            lowest += (1.0 - self.momentum) * (batch_lowest - lowest)
            highest += (1.0 - self.momentum) * (batch_highest - highest)
        return histogram.range_within(lowest, highest)


@dataclass(frozen=True)
class Percentile:
    """Clip the outermost values, ``100 - percent`` percent of all at most.

    The end is the outer edge of the last bin that has to stay, or the extreme value seen if that is
    nearer to zero; the number of values beyond it is counted exactly. Magnitudes are cut for
    one-sided data and for a symmetric grid (NVIDIA's pytorch-quantization, 99.99); otherwise each
    tail loses half of the share (ONNX Runtime).
    """

    percent: float = 99.99

    def __post_init__(self) -> None:
        if not 0.0 < self.percent <= 100.0:
            raise ValueError(
                f"Percentile: percent must be above 0 and at most 100, got {self.percent!r}."
            )

    def clip_range(
        self,
        histogram: TensorHistogram,
        grid: Grid,  # noqa: ARG002
        *,
        symmetric: bool,
    ) -> tuple[float, float]:
        """See `RangeRule`."""
        # The decimal number that was written, so that 99.9 of 1,000 values clips one, not none.
        share = 1 - Fraction(str(self.percent)) / 100
        total = int(histogram.counts.sum())
        bins = histogram.bins_per_side
        if symmetric or not histogram.is_two_sided:
            dropped = _outer_bins(histogram.magnitudes().flip(0), int(total * share))
            threshold = (bins - dropped) * histogram.width
            return histogram.range_within(-threshold, threshold)
        clipped = int(total * share / 2)
        below = _outer_bins(histogram.counts, clipped) - bins
        above = bins - _outer_bins(histogram.counts.flip(0), clipped)
        return histogram.range_within(below * histogram.width, above * histogram.width)


def _outer_bins(counts: Tensor, clipped: int) -> int:
    """How many of the first bins hold no more than `clipped` values together."""
    return int((counts.cumsum(0) <= clipped).sum())


@dataclass(frozen=True)
class LpLoss:
    """Minimize the mean ``|x - dequantize(quantize(x))| ** power``.

    The loss is the exact integral for data spread evenly within each bin, so it stays meaningful
    when a quantization step is narrower than a bin; exact zeros cost nothing. Two-sided data on an
    asymmetric grid is searched over scale and zero point together, all other data over one
    threshold (`best_range`). BRECQ and QDrop use a power of 2.4; see `MAE` and `MSE` for others.
    """

    power: float

    def __post_init__(self) -> None:
        if not 0.0 < self.power <= _LARGEST_POWER:
            raise ValueError(
                f"{type(self).__name__}: power must be positive and at most {_LARGEST_POWER:g}, "
                f"got {self.power!r}."
            )

    def clip_range(
        self, histogram: TensorHistogram, grid: Grid, *, symmetric: bool
    ) -> tuple[float, float]:
        """See `RangeRule`; of equal losses the widest range."""
        return best_range(histogram, grid, PowerError(self.power), symmetric=symmetric)


@dataclass(frozen=True)
class MAE(LpLoss):
    """Minimize the mean absolute error: outliers count linearly, so they are clipped sooner.

    It is the loss of RepAPQ (arXiv 2402.16121).
    """

    power: float = 1.0


@dataclass(frozen=True)
class MSE(LpLoss):
    """Minimize the mean squared error."""

    power: float = 2.0


@dataclass(frozen=True)
class Cosine:
    """Maximize the cosine ``<x, y> / (|x| |y|)`` of a tensor x and its fake-quantized self y.

    EasyQuant's criterion, here for the tensor itself and not for the output of a layer. The three
    products are exact integrals for data spread evenly within each bin, and the range is searched
    as for `LpLoss`. The cosine is blind to a common factor, so it clips rare values hard.
    """

    def clip_range(
        self, histogram: TensorHistogram, grid: Grid, *, symmetric: bool
    ) -> tuple[float, float]:
        """See `RangeRule`; of equal cosines the widest range."""
        return best_range(histogram, grid, CosineError(), symmetric=symmetric)
