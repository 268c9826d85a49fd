"""The real values of 8-bit integers, the inverse of `quantize`."""

import torch
from torch import Tensor

from .reference.checks import check_dtype, check_scale
from .registration import has_values, register_operator


def dequantize_reference(input: Tensor, scale: float, zero_point: int) -> Tensor:
    """Return `(input - zero_point) * scale`, in float32 with the scale rounded to float32.

    Example:
        >>> dequantize(torch.tensor([4, 15], dtype=torch.uint8), scale=0.5, zero_point=3)
        tensor([0.5000, 6.0000])

    Args:
        input: uint8 or int8, any shape.
        scale: Distance between two levels, from `2**-126` to `2**126`.
        zero_point: Level of the value zero, within the range of the dtype.

    Returns:
        float32, shape and memory format of `input`. No gradient.

    Raises:
        TypeError: `input` is neither uint8 nor int8.
        ValueError: `scale` or `zero_point` is out of range.
    """
    _check(input, scale, zero_point)
    values = torch.empty_like(input, dtype=torch.float32)
    if has_values(input):
        values.copy_((input.float() - zero_point) * torch.tensor(scale, dtype=torch.float32))
    return values


dequantize = register_operator(dequantize_reference)


def _check(input: Tensor, scale: float, zero_point: int) -> None:
    """Reject what the compiled kernels reject, in the words of csrc/common/dequantize.h."""
    check_dtype("dequantize", "input", input, torch.uint8, torch.int8)
    check_scale("dequantize", scale)
    info = torch.iinfo(input.dtype)
    if not info.min <= zero_point <= info.max:
        raise ValueError(
            f"dequantize: expected zero_point from {info.min} to {info.max}, got {zero_point}"
        )
