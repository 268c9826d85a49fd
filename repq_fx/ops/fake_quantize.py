"""Rounding onto an affine integer grid and back, with gradients for the input and the scale."""

from typing import Any

import torch
from torch import Tensor

NAME = "repq_fx::fake_quantize"
MAX_LEVEL = 2**24  # Levels are formed in float32, which holds every integer up to here.

torch.library.define(
    NAME,
    "(Tensor input, Tensor scale, Tensor zero_point, int quant_min, int quant_max,"
    " int? axis=None) -> Tensor",
)


def fake_quantize(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
    axis: int | None = None,
) -> Tensor:
    """Round `input` to the levels `quant_min..quant_max` of a grid, and return the real values.

    `level = clamp(round(input * (1 / scale)) + zero_point, quant_min, quant_max)`, ties to even;
    the result is `(level - zero_point) * scale`. Every step is one float32 operation. A NaN stays.

    Gradients: straight through for an input inside the grid, zero outside. For `scale` the
    derivative of LSQ (Esser et al., 2020, eq. 3): `round(x / scale) - x / scale` inside, the
    nearest end of the grid outside, summed over what shares the scale. `zero_point` has none.

    The values of `scale` are not checked, as that would stall a GPU: zero, negative or non-finite
    scales give meaningless results.

    Example:
        >>> scale, zero_point = torch.tensor(0.5), torch.tensor(0)
        >>> fake_quantize(torch.tensor([0.3, -9.0]), scale, zero_point, -8, 7)
        tensor([ 0.5000, -4.0000])

    Args:
        input: float32, any shape.
        scale: float32 on the device of `input`. Shape `[]` or `[1]` without `axis`, else
            `[input.shape[axis]]`.
        zero_point: int32 or int64, of the same shapes and device.
        quant_min: Lowest level.
        quant_max: Highest level.
        axis: Dimension that has one scale per index; None for one scale in all.

    Returns:
        float32, shape and memory format of `input`.

    Raises:
        TypeError: A tensor has another dtype.
        ValueError: A shape or device does not fit, `axis` is out of range, or the levels are not
            `-2**24 <= quant_min < quant_max <= 2**24`.
    """
    output: Tensor = torch.ops.repq_fx.fake_quantize(
        input, scale, zero_point, quant_min, quant_max, axis
    )
    return output


def fake_quantize_reference(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
    axis: int | None = None,
) -> Tensor:
    """What every kernel of `fake_quantize` computes, in plain PyTorch."""
    _check(input, scale, zero_point, quant_min, quant_max, axis)
    scale = _broadcast(scale, input, axis)
    zero = _broadcast(zero_point, input, axis).float()
    levels = torch.round(input * scale.reciprocal()) + zero
    return (levels.clamp(quant_min, quant_max) - zero) * scale


def _broadcast(parameter: Tensor, input: Tensor, axis: int | None) -> Tensor:
    """View one value, or one per index of `axis`, so that it broadcasts over `input`."""
    if axis is None:
        return parameter.reshape(())
    shape = [1] * input.dim()
    shape[axis] = -1
    return parameter.reshape(shape)


def _check(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
    axis: int | None,
) -> None:
    """Reject what the compiled kernels reject, in the words of csrc/common/fake_quantize.h."""
    dtypes = (
        ("input", input, "float32", (torch.float32,)),
        ("scale", scale, "float32", (torch.float32,)),
        ("zero_point", zero_point, "int32 or int64", (torch.int32, torch.int64)),
    )
    for name, tensor, expected, allowed in dtypes:
        if tensor.dtype not in allowed:
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise TypeError(f"fake_quantize: expected {expected} {name}, got {dtype}")
    if not -MAX_LEVEL <= quant_min < quant_max <= MAX_LEVEL:
        raise ValueError(
            f"fake_quantize: expected {-MAX_LEVEL} <= quant_min < quant_max <= {MAX_LEVEL}, "
            f"got quant_min={quant_min}, quant_max={quant_max}"
        )
    if axis is not None and not -input.dim() <= axis < input.dim():
        raise ValueError(
            f"fake_quantize: expected axis of a tensor with {input.dim()} dimensions, got {axis}"
        )
    shapes = ([], [1]) if axis is None else ([input.shape[axis]],)
    for name, tensor in (("scale", scale), ("zero_point", zero_point)):
        if list(tensor.shape) not in shapes:
            expected = " or ".join(map(str, shapes))
            raise ValueError(
                f"fake_quantize: expected {name} of shape {expected}, got {list(tensor.shape)}"
            )
        if tensor.device != input.device:
            raise ValueError(
                f"fake_quantize: expected {name} on {input.device}, got {tensor.device}"
            )


def _fake(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
    axis: int | None = None,
) -> Tensor:
    _check(input, scale, zero_point, quant_min, quant_max, axis)
    return torch.empty_like(input)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    *tensors, ctx.quant_min, ctx.quant_max, ctx.axis = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, scale, zero_point = ctx.saved_tensors
    zero = _broadcast(zero_point, x, ctx.axis).float()
    scaled = x * _broadcast(scale, x, ctx.axis).reciprocal()
    levels = torch.round(scaled) + zero
    inside = (levels >= ctx.quant_min) & (levels <= ctx.quant_max)

    grad_input = grad_scale = None
    if ctx.needs_input_grad[0]:
        grad_input = torch.where(inside, grad, 0)
    if ctx.needs_input_grad[1]:
        steps = levels.clamp(ctx.quant_min, ctx.quant_max) - zero
        per_value = grad * torch.where(inside, steps - scaled, steps)
        if ctx.axis is None:
            grad_scale = per_value.sum().reshape(scale.shape)
        else:
            grad_scale = per_value.movedim(ctx.axis, 0).flatten(1).sum(1)
    return grad_input, grad_scale, None, None, None, None


torch.library.impl(NAME, "CompositeExplicitAutograd", fake_quantize_reference)
torch.library.register_fake(NAME, _fake)
torch.library.register_autograd(NAME, _backward, setup_context=_setup_context)
