"""Histogram whose bins double in width as the data needs, updated in one pass over it."""

import torch
from torch import Tensor

from .reference.checks import check_axis, check_device, check_dtype, check_shape
from .registration import has_values, register_operator

MIN_BINS = 8  # With fewer, a width could exceed `LARGEST_EXPONENT`.
MAX_BINS = 2**24  # Bin indices fit float32.
# Between these, a bin width and its reciprocal are normal float32 numbers.
SMALLEST_EXPONENT = -126
LARGEST_EXPONENT = 126


def update_histogram(
    counts: Tensor,
    exponents: Tensor,
    zeros: Tensor,
    input: Tensor,
    axis: int | None = None,
    *,
    relu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Count the values of `input` in a histogram of their own for each index of `axis`, in place.

    A row of `counts` holds `2 * side` bins ``[i * width, (i + 1) * width)`` with
    ``-side <= i < side`` and ``width = 2**exponent``. Where the values need it, the exponent grows
    to the least for which all magnitudes are below ``side * width``; each doubling merges bins
    pairwise. All widths are powers of two: every bin is exact, and the result is that of a single
    pass over all data at the final width, in whatever order and in however many parts it came.

    If a value is NaN or infinite, the histograms stay as they were.

    On a GPU nothing waits for the result, and the values of `counts` and `exponents` are not
    checked: a sum of counts from `2**63` on wraps around.

    Example:
        >>> counts = torch.zeros(8, dtype=torch.int64)
        >>> exponent, zeros = torch.tensor(SMALLEST_EXPONENT), torch.tensor(0)
        >>> update_histogram(counts, exponent, zeros, torch.tensor([-0.5, 0.0, 3.0]))
        (tensor(-0.5000), tensor(3.), tensor(0))
        >>> counts, exponent, zeros
        (tensor([0, 0, 0, 1, 1, 0, 0, 1]), tensor(0), tensor(1))

    Args:
        counts: int64 ``[*rows, 2 * side]``; a power of two from 8 to `2**24` bins. ``*rows`` is
            empty without `axis`, else ``input.shape[axis]``.
        exponents: int64 ``[*rows]``, from -126 to 126; start with -126.
        zeros: int64 ``[*rows]``; how many of the values were exactly 0. They count in bin 0 too.
        input: float32, bfloat16 or float16, of any shape and strides.
        axis: Dimension that has one histogram per index; None for one histogram in all.
        relu: Count ``max(input, 0)`` instead.

    Returns:
        The lowest value (float32), the highest value (float32), and how many values are NaN or
        infinite (int64), each ``[*rows]``. A NaN is neither lowest nor highest; without any other
        value they are `inf` and `-inf`. They carry no gradient.

    Raises:
        TypeError: A tensor has another dtype.
        ValueError: A shape or device does not fit, `counts`, `exponents` or `zeros` is not
            contiguous, `axis` or an exponent is out of range, or the counts of a row would sum to
            `2**63` or more.
    """
    return _operator(counts, exponents, zeros, input.detach(), axis, relu)


def update_histogram_reference(
    counts: Tensor,
    exponents: Tensor,
    zeros: Tensor,
    input: Tensor,
    axis: int | None = None,
    relu: bool = False,  # noqa: FBT001 - the signature of the operator
) -> tuple[Tensor, Tensor, Tensor]:
    """What every kernel of `update_histogram` computes, in plain PyTorch."""
    _check(counts, exponents, zeros, input, axis)
    if not has_values(input):
        bound = torch.empty_like(exponents, dtype=torch.float32)
        return bound, torch.empty_like(bound), torch.empty_like(exponents)
    rows = input.float()[None] if axis is None else input.float().movedim(axis, 0)
    rows = rows.reshape(len(rows), input.numel() // max(len(rows), 1))
    _check_values(counts, exponents, rows.shape[1])
    if relu:
        rows = rows.relu()
    numbers = ~rows.isnan()
    infinity = rows.new_full((len(rows), 1), torch.inf)
    lowest = torch.cat([infinity, rows.where(numbers, torch.inf)], 1).amin(1)
    highest = torch.cat([-infinity, rows.where(numbers, -torch.inf)], 1).amax(1)
    non_finite = rows.isfinite().logical_not().sum(1)
    if rows.numel() > 0 and not non_finite.any():
        side = counts.shape[-1] // 2
        widened = torch.maximum(
            exponents, _exponents_for(torch.maximum(-lowest, highest), side).view_as(exponents)
        )
        counted = _counts_of(rows, widened.reshape(-1).tolist(), side)
        counts.copy_(merge_bins(counts, widened - exponents) + counted.view_as(counts))
        exponents.copy_(widened)
        zeros.add_((rows == 0).sum(1).view_as(zeros))
    shape = exponents.shape
    return lowest.view(shape), highest.view(shape), non_finite.view(shape)


_operator = register_operator(update_histogram_reference, mutates=("counts", "exponents", "zeros"))


def merge_bins(counts: Tensor, doublings: Tensor) -> Tensor:
    """The counts over bins that are ``2**doublings`` times as wide.

    Args:
        counts: int64 ``[*rows, 2 * side]``, not changed.
        doublings: int64 ``[*rows]``, not negative.

    Returns:
        A new tensor shaped like `counts`.
    """
    side = counts.shape[-1] // 2
    bins = torch.arange(-side, side, device=counts.device)
    merged = bins >> doublings.clamp(max=62).unsqueeze(-1)
    return torch.zeros_like(counts).scatter_add_(-1, merged + side, counts)


def _exponents_for(magnitudes: Tensor, side: int) -> Tensor:
    """The least exponents for which `side` bins hold the magnitudes."""
    exponents = torch.frexp(magnitudes).exponent.long() - (side.bit_length() - 1)
    return exponents.where(magnitudes > 0, SMALLEST_EXPONENT).clamp(min=SMALLEST_EXPONENT)


def _counts_of(rows: Tensor, exponents: list[int], side: int) -> Tensor:
    """The counts of each of `rows`, ``[rows, values]``, as one long tensor."""
    # Powers of two: the product is exact, and so is the bin.
    inverse_widths = torch.tensor([2.0**-exponent for exponent in exponents], device=rows.device)
    scaled = rows * inverse_widths[:, None]
    # A negative value must not underflow to zero, which lies in the bin above.
    negative = scaled.clamp_max(-torch.finfo(torch.float32).tiny)
    bins = torch.where(rows < 0, negative, scaled).floor_().long()
    bins += ((2 * torch.arange(len(rows), device=rows.device) + 1) * side)[:, None]
    return torch.bincount(bins.flatten(), minlength=2 * side * len(rows))


def _check(
    counts: Tensor, exponents: Tensor, zeros: Tensor, input: Tensor, axis: int | None
) -> None:
    """Reject what the compiled kernels reject, in the words of csrc/common/update_histogram.h."""
    check_dtype("update_histogram", "input", input, torch.float32, torch.bfloat16, torch.float16)
    check_axis("update_histogram", input, axis)
    rows = [] if axis is None else [input.shape[axis]]
    bins = counts.shape[-1] if counts.dim() else 0
    if not (MIN_BINS <= bins <= MAX_BINS and bins & (bins - 1) == 0):
        raise ValueError(
            f"update_histogram: expected a power of two from {MIN_BINS} to {MAX_BINS} bins, "
            f"got counts of shape {list(counts.shape)}"
        )
    _check_state("counts", counts, [*rows, bins], input)
    _check_state("exponents", exponents, rows, input)
    _check_state("zeros", zeros, rows, input)


def _check_state(name: str, tensor: Tensor, shape: list[int], input: Tensor) -> None:
    check_dtype("update_histogram", name, tensor, torch.int64)
    check_device("update_histogram", name, tensor, input)
    if not tensor.is_contiguous():
        raise ValueError(
            f"update_histogram: expected contiguous {name}, got strides {list(tensor.stride())}"
        )
    check_shape("update_histogram", name, tensor, shape)


def _check_values(counts: Tensor, exponents: Tensor, new_values: int) -> None:
    for exponent in exponents.reshape(-1).tolist():
        if not SMALLEST_EXPONENT <= exponent <= LARGEST_EXPONENT:
            raise ValueError(
                f"update_histogram: expected exponents from {SMALLEST_EXPONENT} to "
                f"{LARGEST_EXPONENT}, got {exponent}"
            )
    # In halves, whose sums cannot overflow.
    low = (counts & 0xFFFFFFFF).sum(-1) + new_values
    high = (counts >> 32).sum(-1) + (low >> 32)
    if (high >= 2**31).any():
        raise ValueError(
            "update_histogram: expected counts that stay below 2**63 in sum, "
            "but the values of input exceed that"
        )
