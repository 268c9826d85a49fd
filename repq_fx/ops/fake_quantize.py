"""Rounding onto an affine integer grid and back, with gradients for input, scale and zero point."""

from typing import Any

import torch
from torch import Tensor

from .reference.channel_grids import ChannelGrids
from .reference.checks import check_dtype
from .reference.rounding import Rounding, check_rounding, round_levels, uniform_like
from .registration import has_values, register_operator


def fake_quantize_reference(  # noqa: PLR0913, PLR0917 -- the operator's schema
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
    axis: int | None = None,
    rounding: int = 0,
    keep: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """Round `input` to the levels `quant_min..quant_max` of a grid, and return the real values.

    `level = clamp(round(input * (1 / scale)) + zero_point, quant_min, quant_max)`; the result is
    `(level - zero_point) * scale`. Every step is one float32 operation, and a result for bfloat16
    or float16 is rounded once more, at the end. A NaN stays. A float `zero_point` is first rounded
    to an integer, ties to even.

    With `keep` each value stays as it is with that probability (QDrop: Wei et al., 2022). Which
    ones do, and how `Rounding.STOCHASTIC` rounds, depends on `seed` and the position in memory
    alone. Gradients for `input`, `scale` and a float `zero_point`: `fake_quantize_backward`.

    The values of `scale` are checked on the CPU only, as that would stall a GPU, where zero,
    negative or non-finite scales give meaningless results.

    Example:
        >>> scale, zero_point = torch.tensor(0.5), torch.tensor(0)
        >>> fake_quantize(torch.tensor([0.3, -9.0]), scale, zero_point, -8, 7)
        tensor([ 0.5000, -4.0000])

    Args:
        input: float32, bfloat16 or float16, any shape.
        scale: float32 on the device of `input`, from `2**-126` to `2**126`. Shape `[]` or `[1]`
            without `axis`, else `[input.shape[axis]]`.
        zero_point: int32, int64 or float32, of the same shapes and device.
        quant_min: Lowest level, from `-2**24`.
        quant_max: Highest level, above `quant_min` and up to `2**24`.
        axis: Dimension that has one scale per index; None for one scale in all.
        rounding: Which of two levels a value between them takes: a `Rounding`.
        keep: Probability that a value is not rounded, from 0 to 1; 0 with stochastic rounding.
        seed: Of the random numbers, int64.

    Returns:
        dtype, shape and memory format of `input`.

    Raises:
        TypeError: A tensor has another dtype.
        ValueError: A shape, a device, a number or, on the CPU, a scale does not fit.
    """
    grids = ChannelGrids(scale, zero_point, quant_min, quant_max, axis)
    check(input, grids, rounding, keep)
    output = torch.empty_like(input)
    if has_values(input):
        grids.check_values("fake_quantize")
        steps, zero = grids.over(input)
        levels = round_levels(input.float() * steps.reciprocal(), rounding, seed) + zero
        output.copy_((grids.clamp(levels) - zero) * steps)
        if keep > 0:
            output.copy_(torch.where(is_kept(input, keep, seed), input, output))
    return output


fake_quantize = register_operator(fake_quantize_reference)


def is_kept(input: Tensor, keep: float, seed: int) -> Tensor:
    """Which values of `input` are not rounded."""
    return uniform_like(input, seed) < torch.tensor(keep, dtype=torch.float32)


def check(input: Tensor, grids: ChannelGrids, rounding: int, keep: float) -> None:
    """Reject what the compiled kernels reject, in the words of csrc/common/fake_quantize.h."""
    check_dtype("fake_quantize", "input", input, torch.float32, torch.bfloat16, torch.float16)
    grids.check("fake_quantize", input)
    check_rounding("fake_quantize", rounding)
    if not 0 <= keep <= 1:
        raise ValueError(f"fake_quantize: expected keep from 0 to 1, got {keep:g}")
    if keep > 0 and rounding == Rounding.STOCHASTIC:
        raise ValueError(f"fake_quantize: expected keep=0 with stochastic rounding, got {keep:g}")


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    tensors, ctx.settings = inputs[:3], inputs[3:]
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_input, grad_scale, grad_zero_point = torch.ops.repq_fx.fake_quantize_backward(
        grad, *ctx.saved_tensors, *ctx.settings
    )
    grads = (grad_input, grad_scale, grad_zero_point.view_as(ctx.saved_tensors[2]))
    wanted = (g if need else None for g, need in zip(grads, ctx.needs_input_grad, strict=False))
    return (*wanted, *[None] * len(ctx.settings))


torch.library.register_autograd("repq_fx::fake_quantize", _backward, setup_context=_setup_context)
