"""Divergence of a quantized histogram from itself, for every number of bins kept."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from .reference.checks import check_dtype, check_on_cpu
from .registration import has_values, register_operator

Divergence = Literal["reject", "mask", "smooth", "cfws"]
Expansion = Literal["filled", "all"]
Remainder = Literal["spread", "last"]

LARGEST = 2**24  # Bins and levels, so that their products are exact.
# What MXNet and ONNX Runtime put in place of an empty bin.
SMOOTHING = 1e-4
# Candidates that the reference smooths together: 4,096 bins of each take a few megabytes.
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

    Of n bins, counted from the one at zero, P is the first i with everything beyond them added to
    the last, and Q is the first i without that addition, averaged within each quantization level.
    The options are those of `quant.KL`, which says where they come from.

    With prefix sums of the counts c, of ``c ln c`` and of the bins that are not empty, each
    candidate costs one term per level instead of one per bin:
    ``sum p ln p - sum p ln q``, where q is constant over the bins of a level. Smoothing takes the
    same t from every bin that is not empty: ``sum (c - t) ln (c - t)`` is a Taylor series in t of
    prefix sums.

    The compiled kernel has a logarithm of its own, which vectorizes, and sums the levels in another
    order than the reference: the two differ by up to 1e-13 of ``ln(sum of counts)``. Any number of
    threads gives the same bits. There is no CUDA kernel: a histogram has a few thousand numbers,
    and rules read it on the CPU.

    Example:
        >>> counts = torch.tensor([5, 3, 0, 1])
        >>> kl_divergences(counts, 2, torch.tensor([2, 4]), divergence="mask")
        tensor([0.0101, 0.0281], dtype=torch.float64)

    Args:
        counts: ``[n]``, on the CPU, not negative; the last is not 0. Whole numbers below ``2**53``
            in float64 or an integer type are summed exactly.
        levels: Number of quantization levels, up to ``2**24``.
        kept: int64 ``[k]``, from 1 to n.
        divergence: ``"reject"``, ``"mask"``, ``"smooth"`` or ``"cfws"``.
        expand: Average over the ``"filled"`` bins of a level or over ``"all"`` of them.
        remainder: ``"spread"`` the bins over the levels, or give the ``"last"`` one all left over.

    Returns:
        float64 ``[k]``, in nats; ``inf`` for candidates that must not be chosen.

    Raises:
        TypeError: `kept` is not int64.
        ValueError: A tensor has another number of dimensions or is not on the CPU, a number is out
            of range, or an option is none of its choices.
    """
    return _operator(counts.double(), kept, levels, divergence, expand, remainder)


def kl_divergences_reference(
    counts: Tensor,
    kept: Tensor,
    levels: int,
    divergence: str,
    expand: str,
    remainder: str,
) -> Tensor:
    """What every kernel of `kl_divergences` computes, in plain PyTorch."""
    _check(counts, kept, levels, divergence, expand, remainder)
    if not has_values(kept):
        return torch.empty_like(kept, dtype=torch.float64)
    for number in kept[(kept < 1) | (kept > len(counts))].tolist():
        raise ValueError(f"kl_divergences: expected kept from 1 to {len(counts)}, got {number}")
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


_operator = register_operator(kl_divergences_reference)


def _level_starts(kept: Tensor, levels: int, remainder: str) -> Tensor:
    """First bin of each level and, at the end, the number of bins: ``[k, levels + 1]``."""
    numbers = torch.arange(levels + 1)
    if remainder == "spread":
        return -(-numbers * kept[:, None] // levels)  # ceil(level * i / levels)
    starts = numbers * (kept[:, None] // levels)
    starts[:, -1] = kept
    return starts


def _level_of(bins: Tensor, kept: Tensor, levels: int, remainder: str) -> Tensor:
    """Level of each of `bins` where `kept` bins are kept; the two broadcast."""
    if remainder == "spread":
        return bins * levels // kept
    size = kept // levels
    return torch.where(size > 0, bins // size.clamp(min=1), levels - 1).clamp(max=levels - 1)


def _smoothed(counts: Tensor, levels: int, kept: Tensor, expand: str, remainder: str) -> Tensor:
    """Divergences of P and Q after both are smoothed, from their values in every bin."""
    bins = torch.arange(int(kept.max()) if len(kept) else 0)
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


def _check(
    counts: Tensor, kept: Tensor, levels: int, divergence: str, expand: str, remainder: str
) -> None:
    """Reject what the compiled kernel rejects, in the words of csrc/cpu/kl_divergences.cpp."""
    for name, tensor, dtype in (("counts", counts, torch.float64), ("kept", kept, torch.int64)):
        check_dtype("kl_divergences", name, tensor, dtype)
        check_on_cpu("kl_divergences", name, tensor)
        if tensor.dim() != 1:
            raise ValueError(
                f"kl_divergences: expected {name} of one dimension, got shape {list(tensor.shape)}"
            )
    for name, number in (("bins", len(counts)), ("levels", levels)):
        if not 1 <= number <= LARGEST:
            raise ValueError(f"kl_divergences: expected {name} from 1 to {LARGEST}, got {number}")
    options = (
        ("divergence", divergence, Divergence),
        ("expand", expand, Expansion),
        ("remainder", remainder, Remainder),
    )
    for name, value, choices in options:
        if value not in get_args(choices):
            expected = ", ".join(get_args(choices))
            raise ValueError(
                f"kl_divergences: expected {name} to be one of {expected}, got {value}"
            )
