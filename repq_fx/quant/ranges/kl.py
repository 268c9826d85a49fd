"""Entropy calibration: the threshold whose quantized distribution diverges least."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

import torch
from torch import Tensor

from ...ops.kl_divergences import Divergence, Expansion, Remainder, kl_divergences
from ..grid import Grid
from .histogram import TensorHistogram

ZeroBin = Literal["copy", "keep", "drop"]
Tie = Literal["last", "first"]
Edge = Literal["lower", "middle", "upper"]

# Divergences that are equal but for rounding.
_TIE = 1e-12
_EDGE_OFFSETS = {"lower": 0.0, "middle": 0.5, "upper": 1.0}


@dataclass(frozen=True, repr=False)
class KL:
    """Minimize ``KL(P || Q)`` over thresholds (NVIDIA, GTC 2017, "8-bit inference with TensorRT").

    P is the histogram of magnitudes up to the threshold with everything beyond it added to the
    last bin; Q is the same histogram without that addition, averaged over the bins of each
    quantization level. The sources differ in everything else, and in what they find by factors of
    ten; so each difference is an option, and the class methods are the published combinations. A
    tensor with fewer bins than `first`, or without a usable candidate, keeps its range.

    Attributes:
        divergence: ``"reject"``: exact, and infinite where the last bin would be empty but for the
            values beyond it. ``"mask"``: bins in which P or Q is empty are left out of the sum.
            ``"smooth"``: empty bins of P and Q hold 1e-4, taken from the others. ``"cfws"``:
            ``"mask"`` with the sums of P and Q swapped in the logarithms, which adds about twice
            the clipped share.
        zero_bin: ``"copy"`` gives the lowest bin the count of its neighbour, so that the spike of
            zeros behind a ReLU does not decide; ``"keep"`` leaves it; ``"drop"`` leaves out the
            values that are exactly zero.
        levels: ``"grid"``: as many as the grid has integers, or half of them for two-sided data.
            ``"half"``: half of them always, as on a signed grid. Or their number.
        first: Smallest number of bins to keep; a float is a share of the bins up to the largest
            magnitude; None is one bin for each level.
        stride: Step from one number of bins to the next.
        tie: Which of equal minima (within 1e-12) wins; ``"last"`` is the widest range.
        edge: Which point of the first bin that is left out becomes the threshold.
        bins: Merge bins pairwise until at most so many hold the data; None keeps all.
        expand: Average over the ``"filled"`` bins of a level or over ``"all"`` of them.
        remainder: If the bins do not divide evenly, ``"spread"`` them, so that bin k of i belongs
            to level ``k * levels // i``; or give the ``"last"`` level all that are left over.
    """

    divergence: Divergence = "reject"
    zero_bin: ZeroBin = "copy"
    levels: Literal["grid", "half"] | int = "grid"
    first: int | float | None = None
    stride: int = 1
    tie: Tie = "last"
    edge: Edge = "lower"
    bins: int | None = None
    expand: Expansion = "filled"
    remainder: Remainder = "spread"

    def __post_init__(self) -> None:
        for name, kind in _CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(
                    f"KL: {name} must be one of {get_args(kind)}, got {getattr(self, name)!r}."
                )
        if self.levels not in ("grid", "half") and not _is_count(self.levels):
            raise ValueError(
                f"KL: levels must be 'grid', 'half' or a positive integer, got {self.levels!r}."
            )
        is_share = isinstance(self.first, float) and 0.0 < self.first < 1.0
        if not (self.first is None or is_share or _is_count(self.first)):
            raise ValueError(
                "KL: first must be None, a positive integer or a share between 0.0 and 1.0, "
                f"got {self.first!r}."
            )
        if not _is_count(self.stride):
            raise ValueError(f"KL: stride must be a positive integer, got {self.stride!r}.")
        if self.bins is not None and not (_is_count(self.bins) and self.bins > 1):
            raise ValueError(f"KL: bins must be None or an integer above 1, got {self.bins!r}.")

    def __repr__(self) -> str:
        changed = (
            f"{entry.name}={getattr(self, entry.name)!r}"
            for entry in fields(self)
            if getattr(self, entry.name) != entry.default
        )
        return f"KL({', '.join(changed)})"

    @classmethod
    def tensorrt(cls) -> "KL":
        """The GTC 2017 slide: 128 levels, 2,048 bins, zeros kept, middle of the bin.

        The slide stops one bin short of the whole range; here that is a candidate too.
        """
        return cls(zero_bin="keep", levels="half", tie="first", edge="middle", bins=2048)

    @classmethod
    def nvidia(cls) -> "KL":
        """NVIDIA's pytorch-quantization: lowest bin copied, at least 128 bins, last minimum.

        With all 256 levels of one-sided data, fewer than 256 bins are each their own level.
        """
        return cls(first=128, bins=2048)

    @classmethod
    def intel(cls) -> "KL":
        """Intel Neural Compressor: 255 levels, and only the top 30 percent of thresholds.

        That is its rule for one-sided data, which it barely clips; here it serves all data.
        """
        return cls(zero_bin="keep", levels=255, first=0.7, tie="first", edge="middle", bins=2048,
                   remainder="last")  # fmt: skip

    @classmethod
    def smoothed(cls) -> "KL":
        """MXNet and ONNX Runtime: empty bins hold 1e-4; both use another number of bins."""
        return cls("smooth", zero_bin="keep", levels="half", tie="first", bins=2048,
                   remainder="last")  # fmt: skip

    @classmethod
    def cfws(cls) -> "KL":
        """The formula of the CFWS repository's helper; the rest is not public, so the slide's."""
        return cls("cfws", zero_bin="keep", levels="half", edge="middle", bins=2048)

    def clip_range(
        self,
        histogram: TensorHistogram,
        grid: Grid,
        *,
        symmetric: bool,  # noqa: ARG002  (magnitudes are searched either way)
    ) -> tuple[float, float]:
        """See `RangeRule`."""
        threshold = self._threshold(histogram, grid)
        return histogram.range_within(-threshold, threshold)

    def _threshold(self, histogram: TensorHistogram, grid: Grid) -> float:
        counts, width = self._counts_and_width(histogram)
        if counts.sum() == 0:  # Nothing but zeros.
            return float("inf")
        occupied = counts[: int(counts.nonzero()[-1]) + 1].double()
        levels = self._levels_on(grid, two_sided=histogram.is_two_sided)
        first = levels if self.first is None else self.first
        if isinstance(first, float):
            first = max(1, int(first * (len(occupied) - 1)))
        if first > len(occupied):
            return float("inf")
        kept = torch.arange(first, len(occupied) + 1, self.stride)
        divergences = kl_divergences(occupied, levels, kept, divergence=self.divergence,
                                     expand=self.expand, remainder=self.remainder)  # fmt: skip
        smallest = (divergences <= divergences.min() + _TIE).nonzero().flatten()
        best = int(smallest[-1 if self.tie == "last" else 0])
        if divergences[best].isinf():
            return float("inf")
        return (int(kept[best]) + _EDGE_OFFSETS[self.edge]) * width

    def _counts_and_width(self, histogram: TensorHistogram) -> tuple[Tensor, float]:
        counts, width = histogram.magnitudes(), histogram.width
        occupied = int(counts.nonzero()[-1]) + 1
        if self.zero_bin == "drop":
            counts[0] -= histogram.zeros
        while self.bins is not None and occupied > self.bins:
            counts, width, occupied = counts.view(-1, 2).sum(1), 2 * width, (occupied + 1) // 2
        if self.zero_bin == "copy":
            counts[0] = counts[1]
        return counts, width

    def _levels_on(self, grid: Grid, *, two_sided: bool) -> int:
        if isinstance(self.levels, int):
            return self.levels
        integers = grid.quant_max - grid.quant_min + 1
        return (integers + 1) // 2 if two_sided or self.levels == "half" else integers


_CHOICES = {
    "divergence": Divergence,
    "zero_bin": ZeroBin,
    "tie": Tie,
    "edge": Edge,
    "expand": Expansion,
    "remainder": Remainder,
}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
