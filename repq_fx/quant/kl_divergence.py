"""Entropy calibration: the threshold whose quantized distribution diverges least."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .grid import Grid
from .histogram import TensorHistogram


@dataclass(frozen=True)
class KL:
    """Minimize ``KL(P || Q)`` over thresholds (NVIDIA, GTC 2017, "8-bit inference with TensorRT").

    P is the histogram of magnitudes up to the threshold with everything beyond it added to the
    last bin; Q is the same histogram without that addition, averaged over the bins of each
    quantization level that are not empty. A threshold whose last bin would be empty but for the
    values beyond it has an infinite divergence and is never chosen; of equals the largest wins;
    the result is the upper edge of the last bin. One-sided data has as many levels as the grid has
    integers, two-sided data half of them.

    Attributes:
        skip_zero_bin: Give the lowest bin the count of its neighbour, as NVIDIA's toolkit does, so
            that the spike of zeros behind a ReLU does not decide.
    """

    skip_zero_bin: bool = True

    def threshold(self, histogram: TensorHistogram, grid: Grid, *, symmetric: bool) -> float:
        """The upper edge of the last bin kept, or the largest magnitude seen if that is smaller."""
        del symmetric  # Magnitudes are searched either way.
        levels = grid.quant_max - grid.quant_min + 1
        if histogram.lowest < 0.0 < histogram.highest:
            levels //= 2
        counts = histogram.magnitudes().double()
        if self.skip_zero_bin:
            counts[0] = counts[1]
        if counts.sum() == 0:  # Nothing but zeros.
            return histogram.largest_magnitude
        occupied = counts[: int(counts.nonzero()[-1]) + 1]
        if len(occupied) <= levels:
            return histogram.largest_magnitude
        divergences = kl_divergences(occupied, levels)
        # The last of equal minima: the widest range.
        kept = len(divergences) - 1 - int(divergences.flip(0).argmin()) + levels
        return min(kept * histogram.width, histogram.largest_magnitude)


def kl_divergences(counts: Tensor, levels: int) -> Tensor:
    """Divergence of keeping the first ``i`` bins, for every ``i`` from `levels` to all of them.

    With prefix sums of the counts c, of ``c ln c`` and of the bins that are not empty, each
    candidate costs one term per level instead of one per bin:
    ``sum p ln p - sum p ln q``, where q is constant over the non-empty bins of a level.

    Args:
        counts: float64 ``[n]`` with ``n >= levels`` and a last entry that is not 0.
        levels: Number of quantization levels; bin k of i belongs to level ``k * levels // i``.

    Returns:
        float64 ``[n - levels + 1]``; ``inf`` where P has mass in a bin in which Q has none.
    """
    total = counts.sum()
    kept = torch.arange(levels, len(counts) + 1)
    level_starts = -(-torch.arange(levels + 1) * kept[:, None] // levels)  # ceil(j * i / levels)
    mass = _prefix_sums(counts)[level_starts].diff(dim=1)
    filled = _prefix_sums((counts > 0).double())[level_starts].diff(dim=1)
    log_mean = torch.where(mass > 0, (mass / filled).log(), 0.0)

    last = counts[kept - 1]
    beyond = total - _prefix_sums(counts)[kept]
    entropy = _prefix_sums(torch.special.xlogy(counts, counts))[kept]
    entropy += torch.special.xlogy(last + beyond, last + beyond) - torch.special.xlogy(last, last)
    cross_entropy = (mass * log_mean).sum(1) + beyond * log_mean[:, -1]
    # P sums to `total`, Q to `total - beyond`; normalizing both adds the ratio's logarithm.
    divergence = (entropy - cross_entropy) / total - (total / (total - beyond)).log()
    return torch.where((last == 0) & (beyond > 0), torch.inf, divergence)


def _prefix_sums(values: Tensor) -> Tensor:
    return torch.nn.functional.pad(values.cumsum(0), (1, 0))
