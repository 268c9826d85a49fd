"""Histogram between given bounds; those of `update_histogram` are powers of two that it finds."""

import math

import torch
from torch import Tensor

from .reference.checks import check_dtype
from .registration import has_values, register_operator

MAX_BINS = 2**24  # Bin indices are formed in float32, which holds every integer up to here.


def histogram(input: Tensor, bins: int, lo: float, hi: float) -> Tensor:
    """Count the values of `input` in `bins` equal bins between `lo` and `hi`.

    Bin `i` holds `lo + i * width <= x < lo + (i + 1) * width`, with `width = (hi - lo) / bins`. A
    value outside, an infinity too, counts in the nearest end bin. A NaN is not counted.

    The bin is formed in float32 as `floor(x / width + frac) + whole`, where `whole + frac` is
    `-lo / width`. If `width` is a power of two and `lo` a multiple of it (below `2**24` widths from
    zero), then `frac` is 0, no step rounds, and the bin is exact. Doubling such a width merges
    neighbouring bins: the counts are those that the wider bins would have received, bit for bit.
    With any other width a value within rounding distance of an edge may land on either side.

    Example:
        >>> histogram(torch.tensor([0.0, 0.4, 0.5, 7.0]), bins=2, lo=0.0, hi=1.0)
        tensor([2, 2])

    Args:
        input: Floating-point tensor of any shape and strides. Another type than float32 is rounded
            to float32 first.
        bins: From 1 to `2**24`.
        lo: Lower end of the first bin.
        hi: Upper end of the last bin.

    Returns:
        int64 counts of shape `[bins]`, on the device of `input`. They carry no gradient.

    Raises:
        TypeError: `input` is not floating-point.
        ValueError: `bins` is out of range, `lo < hi` are not finite, or the width of a bin is not
            between `2**-126` and `2**126`.
    """
    # The op itself rejects what is not float32.
    values = input.float() if input.is_floating_point() else input
    return _operator(values, bins, lo, hi)


def histogram_reference(input: Tensor, bins: int, lo: float, hi: float) -> Tensor:
    """What every kernel of `histogram` computes, in plain PyTorch; `input` is float32."""
    _check(input, bins, lo, hi)
    if not has_values(input):
        return input.new_empty(bins, dtype=torch.int64)
    width = (hi - lo) / bins
    offset = -lo / width
    whole = math.floor(offset)
    inverse_width = torch.tensor(1 / width, dtype=torch.float32)
    frac = torch.tensor(offset - whole, dtype=torch.float32)

    values = input[~input.isnan()]
    scaled = values * inverse_width
    # A negative value must not underflow to zero, which lies in the bin above.
    underflow = -torch.finfo(torch.float32).tiny
    scaled = torch.where(values < 0, scaled.clamp(max=underflow), scaled)
    index = torch.floor(scaled + frac) + whole
    return torch.bincount(index.clamp(0, bins - 1).long(), minlength=bins)


_operator = register_operator(histogram_reference)


def _check(input: Tensor, bins: int, lo: float, hi: float) -> None:
    """Reject what the compiled kernels reject, in the words of csrc/common/histogram.h."""
    check_dtype("histogram", "input", input, torch.float32)
    if not 1 <= bins <= MAX_BINS:
        raise ValueError(f"histogram: expected bins from 1 to {MAX_BINS}, got {bins}")
    if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
        raise ValueError(f"histogram: expected finite lo < hi, got lo={lo:g}, hi={hi:g}")
    width = (hi - lo) / bins
    # So that the width and its reciprocal are normal float32 numbers.
    if not 2.0**-126 <= width <= 2.0**126:
        raise ValueError(
            f"histogram: expected a bin width from 2**-126 to 2**126, got {width:g}"
            f" (lo={lo:g}, hi={hi:g}, bins={bins})"
        )
