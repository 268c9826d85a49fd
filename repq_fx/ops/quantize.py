"""Rounding of float32 values to 8-bit integers, also the requantization step of lowered layers."""

import torch
from torch import Tensor

from .reference.checks import check_dtype, check_scale
from .reference.rounding import check_rounding, round_levels
from .registration import has_values, register_operator


def quantize_reference(
    input: Tensor,
    scale: float,
    zero_point: int,
    quant_min: int,
    quant_max: int,
    rounding: int = 0,
    seed: int = 0,
) -> Tensor:
    """Round `input` to the integer levels `quant_min..quant_max`, one grid for the whole tensor.

    `clamp(round(input * (1 / scale)) + zero_point, quant_min, quant_max)`, where the scale is first
    rounded to float32 and its reciprocal formed in float32. So `dequantize(quantize(x, ...), ...)`
    equals `fake_quantize(x, ...)` bit for bit, with random numbers too. A NaN, for which an integer
    has no code, becomes `quant_min`.

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
        rounding: Which of two levels a value between them takes: a `Rounding`.
        seed: Of the random numbers of `Rounding.STOCHASTIC`, int64.

    Returns:
        uint8 if `quant_min >= 0`, else int8; shape and memory format of `input`. No gradient.

    Raises:
        TypeError: `input` is not float32.
        ValueError: `scale`, `zero_point` or `rounding` is out of range, or the levels fit neither
            uint8 nor int8.
    """
    check_dtype("quantize", "input", input, torch.float32)
    check_scale("quantize", scale)
    _check_grid(zero_point, quant_min, quant_max)
    check_rounding("quantize", rounding)
    output = torch.empty_like(input, dtype=torch.uint8 if quant_min >= 0 else torch.int8)
    if has_values(input):
        inverse_scale = torch.tensor(scale, dtype=torch.float32).reciprocal()
        levels = round_levels(input * inverse_scale, rounding, seed) + zero_point
        levels = levels.clamp(quant_min, quant_max)
        output.copy_(torch.where(input.isnan(), quant_min, levels))
    return output


quantize = register_operator(quantize_reference)


def _check_grid(zero_point: int, quant_min: int, quant_max: int) -> None:
    """Reject what the compiled kernels reject, in the words of csrc/common/quantize.h."""
    if not (0 <= quant_min < quant_max <= 255 or -128 <= quant_min < quant_max <= 127):
        raise ValueError(
            "quantize: expected quant_min < quant_max, both in 0..255 or both in -128..127, "
            f"got quant_min={quant_min}, quant_max={quant_max}"
        )
    if not quant_min <= zero_point <= quant_max:
        raise ValueError(
            f"quantize: expected zero_point from {quant_min} to {quant_max}, got {zero_point}"
        )
