"""The real values of 8-bit integers, the inverse of `quantize`."""

import torch
from torch import Tensor

from .reference.grid import check_dtype

NAME = "repq_fx::dequantize"

torch.library.define(NAME, "(Tensor input, float scale, int zero_point) -> Tensor")


def dequantize(input: Tensor, scale: float, zero_point: int) -> Tensor:
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
    values: Tensor = torch.ops.repq_fx.dequantize(input, scale, zero_point)
    return values


def dequantize_reference(input: Tensor, scale: float, zero_point: int) -> Tensor:
    """What every kernel of `dequantize` computes, in plain PyTorch."""
    _check(input, scale, zero_point)
    values = (input.float() - zero_point) * torch.tensor(scale, dtype=torch.float32)
    return torch.empty_like(input, dtype=torch.float32).copy_(values)


def _check(input: Tensor, scale: float, zero_point: int) -> None:
    """Reject what the compiled kernels reject, in the words of csrc/common/dequantize.h."""
    check_dtype("dequantize", "input", input, torch.uint8, torch.int8)
    # So that the scale is a normal float32 number, and its reciprocal in `quantize` too.
    if not 2.0**-126 <= scale <= 2.0**126:
        raise ValueError(f"dequantize: expected scale from 2**-126 to 2**126, got {scale:g}")
    info = torch.iinfo(input.dtype)
    if not info.min <= zero_point <= info.max:
        raise ValueError(
            f"dequantize: expected zero_point from {info.min} to {info.max}, got {zero_point}"
        )


def _fake(input: Tensor, scale: float, zero_point: int) -> Tensor:
    _check(input, scale, zero_point)
    return torch.empty_like(input, dtype=torch.float32)


torch.library.impl(NAME, "CompositeExplicitAutograd", dequantize_reference)
torch.library.register_fake(NAME, _fake)
