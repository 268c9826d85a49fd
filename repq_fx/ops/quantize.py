"""Rounding of float32 values to 8-bit integers, also the requantization step of lowered layers."""

import torch
from torch import Tensor

NAME = "repq_fx::quantize"

torch.library.define(
    NAME, "(Tensor input, float scale, int zero_point, int quant_min, int quant_max) -> Tensor"
)


def quantize(
    input: Tensor, scale: float, zero_point: int, quant_min: int, quant_max: int
) -> Tensor:
    """Round `input` to the integer levels `quant_min..quant_max`, one grid for the whole tensor.

    `clamp(round(input * (1 / scale)) + zero_point, quant_min, quant_max)`, ties to even, where the
    scale is first rounded to float32 and its reciprocal formed in float32. So
    `(quantize(x, ...) - zero_point) * scale` equals `fake_quantize(x, ...)` bit for bit. A NaN, for
    which an integer has no code, becomes `quant_min`.

    The parameters are Python numbers because in a lowered graph they are constants.

    Example:
        >>> quantize(torch.tensor([0.3, 9.0]), scale=0.5, zero_point=3, quant_min=0, quant_max=15)
        tensor([ 4, 15], dtype=torch.uint8)

    Args:
        input: float32, any shape.
        scale: Distance between two levels, from `2**-126` to `2**126`.
        zero_point: Level of the value zero, inside the grid.
        quant_min: Lowest level.
        quant_max: Highest level.

    Returns:
        uint8 if `quant_min >= 0`, else int8; shape and memory format of `input`. No gradient.

    Raises:
        TypeError: `input` is not float32.
        ValueError: `scale` or `zero_point` is out of range, or the levels fit neither uint8 nor
            int8.
    """
    levels: Tensor = torch.ops.repq_fx.quantize(input, scale, zero_point, quant_min, quant_max)
    return levels


def quantize_reference(
    input: Tensor, scale: float, zero_point: int, quant_min: int, quant_max: int
) -> Tensor:
    """What every kernel of `quantize` computes, in plain PyTorch."""
    _check(input, scale, zero_point, quant_min, quant_max)
    inverse_scale = torch.tensor(scale, dtype=torch.float32).reciprocal()
    levels = (torch.round(input * inverse_scale) + zero_point).clamp(quant_min, quant_max)
    levels = torch.where(input.isnan(), quant_min, levels)
    return levels.to(_output_dtype(quant_min))


def _output_dtype(quant_min: int) -> torch.dtype:
    return torch.uint8 if quant_min >= 0 else torch.int8


def _check(input: Tensor, scale: float, zero_point: int, quant_min: int, quant_max: int) -> None:
    """Reject what the compiled kernels reject, in the words of csrc/common/quantize.h."""
    if input.dtype != torch.float32:
        dtype = str(input.dtype).removeprefix("torch.")
        raise TypeError(f"quantize: expected float32 input, got {dtype}")
    # So that the scale and its reciprocal are normal float32 numbers.
    if not 2.0**-126 <= scale <= 2.0**126:
        raise ValueError(f"quantize: expected scale from 2**-126 to 2**126, got {scale:g}")
    if not (0 <= quant_min < quant_max <= 255 or -128 <= quant_min < quant_max <= 127):
        raise ValueError(
            "quantize: expected quant_min < quant_max, both in 0..255 or both in -128..127, "
            f"got quant_min={quant_min}, quant_max={quant_max}"
        )
    if not quant_min <= zero_point <= quant_max:
        raise ValueError(
            f"quantize: expected zero_point from {quant_min} to {quant_max}, got {zero_point}"
        )


def _fake(input: Tensor, scale: float, zero_point: int, quant_min: int, quant_max: int) -> Tensor:
    _check(input, scale, zero_point, quant_min, quant_max)
    return torch.empty_like(input, dtype=_output_dtype(quant_min))


torch.library.impl(NAME, "CompositeExplicitAutograd", quantize_reference)
torch.library.register_fake(NAME, _fake)
