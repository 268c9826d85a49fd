"""Divergence of a quantized histogram from itself, for every number of bins kept.

Keeping the first i of n bins, P is those bins with everything beyond them added to the last, and Q
is the bins without that addition, averaged within each quantization level. Bins are counted from
the one at zero; all counts are float64.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

Divergence = Literal["reject", "mask", "smooth", "cfws"]
Expansion = Literal["filled", "all"]
Remainder = Literal["spread", "last"]

# What MXNet and ONNX Runtime put in place of an empty bin.
SMOOTHING = 1e-4
# Candidates that are smoothed together: with 4,096 bins their matrices take a few megabytes.
_BLOCK = 64


def kl_divergences(
    counts: Tensor,
    levels: int,
    kept: Tensor,
    *,
    divergence: Divergence = "reject",
    expand: Expansion = "filled",
    remainder: Remainder = "spread",
) -> Tensor:
    """Divergence of keeping the first ``i`` bins, for every ``i`` in `kept`.

    With prefix sums of the counts c, of ``c ln c`` and of the bins that are not empty, each
    candidate costs one term per level instead of one per bin:
    ``sum p ln p - sum p ln q``, where q is constant over the bins of a level. Smoothing changes
    every bin of every candidate, so it costs one term per bin.

    Args:
        counts: ``[n]`` with a last entry that is not 0.
        levels: Number of quantization levels.
        kept: int64 ``[k]``, from 1 to n.
        divergence: See `KL`.
        expand: See `KL`.
        remainder: See `KL`.

    Returns:
        float64 ``[k]``; ``inf`` for candidates that must not be chosen.
    """
    if divergence == "smooth":
        blocks = [
            _smoothed(counts, levels, block, expand, remainder) for block in kept.split(_BLOCK)
        ]
        return torch.cat(blocks)
    starts = _level_starts(kept, levels, remainder)
    sums = _prefix_sums(counts)
    mass = sums[starts].diff(dim=1)
    averaged_over = starts if expand == "all" else _prefix_sums((counts > 0).double())[starts]
    log_mean = torch.where(mass > 0, (mass / averaged_over.diff(dim=1)).log(), 0.0)

    total, last, beyond = counts.sum(), counts[kept - 1], counts.sum() - sums[kept]
    level_of_last = _level_of(kept - 1, kept, levels, remainder)[:, None]
    # Q has mass in the last bin, so P's addition there has a finite logarithm to be compared with.
    comparable = (last > 0) | (expand == "all") & (mass.gather(1, level_of_last)[:, 0] > 0)
    added = torch.where(comparable, beyond, 0.0)
    entropy = _prefix_sums(torch.special.xlogy(counts, counts))[kept]
    entropy += torch.special.xlogy(last + added, last + added) - torch.special.xlogy(last, last)
    cross_entropy = (mass * log_mean).sum(1) + added * log_mean.gather(1, level_of_last)[:, 0]
    # P sums to `total`, Q to `total - beyond`; normalizing both adds the ratio's logarithm.
    log_ratio = (total / (total - beyond)).log() * ((total - beyond + added) / total)
    sign = 1.0 if divergence == "cfws" else -1.0
    result = (entropy - cross_entropy) / total + sign * log_ratio
    refused = beyond == total  # Q is empty.
    if divergence == "reject":
        refused |= ~comparable & (beyond > 0)
    return torch.where(refused, torch.inf, result)


def _level_starts(kept: Tensor, levels: int, remainder: Remainder) -> Tensor:
    """First bin of each level and, at the end, the number of bins: ``[k, levels + 1]``."""
    numbers = torch.arange(levels + 1)
    if remainder == "spread":
        return -(-numbers * kept[:, None] // levels)  # ceil(level * i / levels)
    starts = numbers * (kept[:, None] // levels)
    starts[:, -1] = kept
    return starts


def _level_of(bins: Tensor, kept: Tensor, levels: int, remainder: Remainder) -> Tensor:
    """Level of each of `bins` where `kept` bins are kept; the two broadcast."""
    if remainder == "spread":
        return bins * levels // kept
    size = kept // levels
    return torch.where(size > 0, bins // size.clamp(min=1), levels - 1).clamp(max=levels - 1)


def _smoothed(
    counts: Tensor, levels: int, kept: Tensor, expand: Expansion, remainder: Remainder
) -> Tensor:
    """Divergences of P and Q after both are smoothed, from their values in every bin."""
    bins = torch.arange(int(kept.max()))
    inside = bins < kept[:, None]
    starts = _level_starts(kept, levels, remainder)
    level = torch.where(inside, _level_of(bins, kept[:, None], levels, remainder), 0)
    filled = (counts[: len(bins)] > 0) & inside
    shared_by = inside if expand == "all" else filled
    averaged_over = torch.zeros(starts.shape, dtype=torch.float64)
    averaged_over.scatter_add_(1, level, shared_by.double())
    mass = _prefix_sums(counts)[starts].diff(dim=1)
    means = mass / averaged_over[:, :levels].clamp(min=1.0)

    q = torch.where(shared_by, means.gather(1, level), 0.0)
    p = torch.where(inside, counts[: len(bins)], 0.0)
    last = (kept - 1)[:, None]
    p.scatter_add_(1, last, counts.sum() - p.sum(1, keepdim=True))
    p, usable_p = _smooth(p, inside)
    q, usable_q = _smooth(q, inside)
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    terms = torch.where(inside, p * (p / q).log(), 0.0)
    return torch.where(usable_p & usable_q, terms.sum(1), torch.inf)


def _smooth(rows: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Each row with `SMOOTHING` in its empty bins, taken from the others; and whether it can be."""
    empty = (rows == 0) & inside
    filled = (rows > 0).sum(1, keepdim=True)
    taken = SMOOTHING * empty.sum(1, keepdim=True) / filled
    smoothed = torch.where(empty, SMOOTHING, rows - taken)
    usable = (taken[:, 0] < 1.0) & ((smoothed > 0) | ~inside).all(1)
    return smoothed.where(inside, 0.0), usable


def _prefix_sums(values: Tensor) -> Tensor:
    return pad(values.cumsum(0), (1, 0))
