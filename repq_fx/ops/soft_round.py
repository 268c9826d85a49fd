"""AdaRound's learned rounding of weights and its regularizer, with gradients for the logits."""

import math
from typing import Any

import torch
from torch import Tensor

from .reference.block_sum import channel_sums, tree_sum
from .reference.channel_grids import ChannelGrids
from .reference.checks import check_dtype, check_like
from .registration import has_values, register_operator

ZETA, GAMMA = 1.1, -0.1


def soft_round_reference(
    weight: Tensor,
    logits: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
    axis: int | None = None,
    beta: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Round `weight` up by the share that `logits` say, and tell how far that is from a decision.

    AdaRound (Nagel et al., 2020), with its rectified sigmoid (eq. 23)
    `h = clamp(1.2 * sigmoid(logits) - 0.1, 0, 1)`: the level of a weight is
    `clamp(floor(weight * (1 / scale)) + zero_point + h, quant_min, quant_max)`, its value
    `(level - zero_point) * scale`, and the regularizer (eq. 24) `sum(1 - |2 h - 1| ** beta)`.
    Rounding is decided where `h` is 0 or 1.

    The exponential and the power are series in float32, the same on every device; they differ from
    the exact ones by a few units of the last place. The regularizer is summed in float64 in a fixed
    order. The values of `scale` are checked on the CPU only, as that would stall a GPU. Gradients
    are for `logits` alone: `soft_round_backward`.

    Example:
        >>> weight, logits = torch.tensor([0.7, 0.7]), torch.tensor([-9.0, 0.0])
        >>> soft_round(weight, logits, torch.tensor(0.5), torch.tensor(0), -8, 7, beta=2.0)
        (tensor([0.5000, 0.7500]), tensor(1.))

    Args:
        weight: float32, any shape.
        logits: float32, shape and device of `weight`.
        scale: float32 on the device of `weight`, from `2**-126` to `2**126`. Shape `[]` or `[1]`
            without `axis`, else `[weight.shape[axis]]`.
        zero_point: int32, int64 or float32, of the same shapes and device.
        quant_min: Lowest level, from `-2**24`.
        quant_max: Highest level, above `quant_min` and up to `2**24`.
        axis: Dimension that has one scale per index; None for one scale in all.
        beta: Power of the regularizer, from 1 to 1024; None for no regularizer (warm-up).

    Returns:
        The values, float32 of shape and memory format of `weight`; and the regularizer, float32
        `[]`, zero without `beta`.

    Raises:
        TypeError: A tensor has another dtype.
        ValueError: A shape, a device, a number or, on the CPU, a scale does not fit.
    """
    grids = ChannelGrids(scale, zero_point, quant_min, quant_max, axis)
    check(weight, logits, grids, beta)
    values, regularizer = torch.empty_like(weight), weight.new_zeros(())
    if not has_values(weight):
        return values, regularizer
    grids.check_values("soft_round")
    steps, zero = grids.over(weight)
    h = stretched_sigmoid(logits)[1].clamp(0, 1)
    levels = (weight * steps.reciprocal()).floor() + zero + h
    values.copy_((grids.clamp(levels) - zero) * steps)
    if beta is not None:
        regularizer.copy_(tree_sum(channel_sums(_doubts(h, beta), weight, axis)))
    return values, regularizer


soft_round = register_operator(soft_round_reference)


def stretched_sigmoid(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The sigmoid, and the rectified one before its clamp."""
    sigmoid = (1 + _exp2(-logits.clamp(-4, 4) * (1 / math.log(2)))).reciprocal()
    return sigmoid, sigmoid * (ZETA - GAMMA) + GAMMA


def _doubts(h: Tensor, beta: float) -> Tensor:
    """What each value adds to the regularizer: from 0 where it is decided to 1 halfway."""
    certainty = (h + h - 1).abs()
    return 1 - certainty_power(certainty, beta - 1) * certainty


def certainty_power(certainty: Tensor, exponent: float) -> Tensor:
    """`certainty ** exponent` for values from 0 to 1 and an exponent from 0 on."""
    power = _log2(certainty.clamp_min(2.0**-126)) * exponent
    return _exp2(power.clamp_min(-126.0))


def _exp2(y: Tensor) -> Tensor:
    """`2 ** y` in the steps of csrc/common/soft_round.h."""
    whole = y.round()
    z = (y - whole) * math.log(2)
    total = torch.full_like(y, 1 / 720)
    for coefficient in (1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0):
        total = total * z + coefficient
    return total * ((whole.int() + 127) << 23).view(torch.float32)


def _log2(t: Tensor) -> Tensor:
    """`log2(t)` in the steps of csrc/common/soft_round.h."""
    bits = t.view(torch.int32)
    exponent = (bits - 0x3F3504F3) >> 23
    mantissa = (bits - (exponent << 23)).view(torch.float32)
    s = (mantissa - 1) / (mantissa + 1)
    square = s * s
    total = torch.full_like(t, 1 / 9)
    for coefficient in (1 / 7, 1 / 5, 1 / 3, 1.0):
        total = total * square + coefficient
    return s * (2 / math.log(2)) * total + exponent.float()


def check(weight: Tensor, logits: Tensor, grids: ChannelGrids, beta: float | None) -> None:
    """Reject what the compiled kernels reject, in the words of csrc/common/soft_round.h."""
    check_dtype("soft_round", "weight", weight, torch.float32)
    check_like("soft_round", "logits", logits, weight)
    grids.check("soft_round", weight)
    if beta is not None and not 1 <= beta <= 1024:
        raise ValueError(f"soft_round: expected beta from 1 to 1024, got {beta:g}")


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
    tensors, ctx.settings = inputs[:4], inputs[4:]
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor, grad_regularizer: Tensor) -> tuple[Tensor | None, ...]:
    grad_logits = None
    if ctx.needs_input_grad[1]:
        grad_logits = torch.ops.repq_fx.soft_round_backward(
            grad, grad_regularizer, *ctx.saved_tensors, *ctx.settings
        )
    return (None, grad_logits, *[None] * 6)


torch.library.register_autograd("repq_fx::soft_round", _backward, setup_context=_setup_context)
