"""The scale of each row of a weight that rounds it with the smallest error, out of 80."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .reference.checks import check_device, check_dtype, check_levels, check_shape
from .registration import has_values, register_operator

# Joint shrink of the range in steps of one percent, as BRECQ searches it.
CANDIDATES = 80
MAX_POWER = 16.0


def search_scale_reference(
    rows: Tensor,
    widest: Tensor,
    quant_min: int,
    quant_max: int,
    power: float,
    importance: Tensor | None = None,
) -> Tensor:
    """The scale of each row, of 80 below its widest one, that loses least by rounding.

    The candidates are ``widest * (1 - 0.01 * step)`` for the steps 0 to 79 (BRECQ, Li et al., 2021,
    searches them too). A candidate loses the sum over the row of ``|fake_quantize(x) - x| ** power
    * importance``, without a zero point. Of equal losses the widest scale wins.

    The error is float32, its power and the sum are float64: at 16 bits neighbouring candidates
    differ in the seventh digit. Losses are added in pairs, neighbours first and then neighbouring
    sums, so that the result is the same on every device and with any number of threads. Powers
    other than 1 and 2 are accurate to 12 digits.

    The values of `widest` are not checked, as that would stall a GPU: other than positive normal
    numbers give meaningless results. So does a NaN or an infinity in its row.

    Example:
        >>> row = torch.tensor([[1.0, 2.0, 3.0, 3.75]])
        >>> search_scale(row, row.amax(1) / 3, quant_min=-3, quant_max=3, power=1.0)
        tensor([1.])

    Args:
        rows: float32 ``[rows, n]``.
        widest: float32 ``[rows]`` on the device of `rows`, the largest candidates.
        quant_min: Lowest level.
        quant_max: Highest level.
        power: Of the error, above 0 and at most 16.
        importance: float64 ``[rows, n]`` on the device of `rows`, not negative; None for ones.

    Returns:
        float32 ``[rows]``. No gradient.

    Raises:
        TypeError: A tensor has another dtype.
        ValueError: A shape or device does not fit, `power` is out of range, or the levels are not
            `-2**24 <= quant_min < quant_max <= 2**24`.
    """
    _check(rows, widest, quant_min, quant_max, power, importance)
    best_scale = widest.clone(memory_format=torch.contiguous_format)
    if not has_values(rows):
        return best_scale
    best_loss = torch.full_like(widest, torch.inf, dtype=torch.float64)
    for step in range(CANDIDATES):
        scale = widest * (1.0 - 0.01 * step)
        levels = torch.round(rows * scale.reciprocal()[:, None]).clamp(quant_min, quant_max)
        losses = _power((levels * scale[:, None] - rows).double().abs(), power)
        loss = _sum_in_pairs(losses if importance is None else losses * importance)
        better = loss < best_loss
        best_scale = torch.where(better, scale, best_scale)
        best_loss = torch.where(better, loss, best_loss)
    return best_scale


search_scale = register_operator(search_scale_reference)


def _sum_in_pairs(items: Tensor) -> Tensor:
    """Sum the rows of ``[rows, n]``: neighbours, then neighbouring sums, and so on."""
    while items.shape[1] > 1:
        padded = F.pad(items, (0, items.shape[1] % 2))
        items = padded[:, ::2] + padded[:, 1::2]
    return items.sum(1)


def _power(base: Tensor, exponent: float) -> Tensor:
    """``base ** exponent`` of float64 numbers that are not negative.

    Step by step what csrc/common/power.h does, which explains it: `torch.pow` has other last bits
    on each device.
    """
    if exponent == 1.0:
        return base
    if exponent == 2.0:
        return base * base
    mantissa_bits, bias = 52, 1023
    bits = base.view(torch.int64)
    mantissa = ((bits & (2**mantissa_bits - 1)) | (bias << mantissa_bits)).view(torch.float64)
    high = mantissa > math.sqrt(2.0)
    mantissa = torch.where(high, mantissa * 0.5, mantissa)
    whole = ((bits >> mantissa_bits) - bias).double() + high.double()
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    log_ratio = ratio * _polynomial(ratio * ratio, [1.0 / (2 * i + 1) for i in range(8)])
    log2_base = whole + log_ratio * (2.0 / math.log(2.0))

    log2_power = exponent * log2_base
    log2_power = torch.where(log2_power > -bias, log2_power, -float(bias)).clamp(max=bias + 1.0)
    nearest = log2_power.round()
    rest = (log2_power - nearest) * math.log(2.0)
    exponential = _polynomial(rest, [1.0 / math.factorial(i) for i in range(12)])
    scale = ((nearest.long() + bias) << mantissa_bits).view(torch.float64)
    return torch.where(base > 0, exponential * scale, base)


def _polynomial(x: Tensor, coefficients: list[float]) -> Tensor:
    """By Horner's scheme, even and odd powers apart."""
    square = x * x
    even, odd = (torch.full_like(x, coefficient) for coefficient in coefficients[-2:])
    for i in range(len(coefficients) - 4, -1, -2):
        even = even * square + coefficients[i]
        odd = odd * square + coefficients[i + 1]
    return even + odd * x


def _check(
    rows: Tensor,
    widest: Tensor,
    quant_min: int,
    quant_max: int,
    power: float,
    importance: Tensor | None,
) -> None:
    """Reject what the compiled kernels reject, in the words of csrc/common/search_scale.h."""
    check_dtype("search_scale", "rows", rows, torch.float32)
    check_dtype("search_scale", "widest", widest, torch.float32)
    if rows.dim() != 2:
        raise ValueError(f"search_scale: expected rows of 2 dimensions, got {rows.dim()}")
    check_shape("search_scale", "widest", widest, [len(rows)])
    check_device("search_scale", "widest", widest, rows)
    if importance is not None:
        check_dtype("search_scale", "importance", importance, torch.float64)
        check_shape("search_scale", "importance", importance, list(rows.shape))
        check_device("search_scale", "importance", importance, rows)
    check_levels("search_scale", quant_min, quant_max)
    if not 0 < power <= MAX_POWER:
        raise ValueError(f"search_scale: expected 0 < power <= 16, got {power:g}")
