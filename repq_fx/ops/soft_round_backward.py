"""The gradient of `soft_round` and of its regularizer for the logits, in one pass."""

import torch
from torch import Tensor

from .reference.channel_grids import ChannelGrids
from .reference.checks import check_device, check_dtype, check_like, check_shape
from .registration import has_values, register_operator
from .soft_round import GAMMA, ZETA, certainty_power, check, stretched_sigmoid


def soft_round_backward_reference(  # noqa: PLR0913, PLR0917 -- the operator's schema
    grad: Tensor,
    grad_regularizer: Tensor,
    weight: Tensor,
    logits: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
    axis: int | None = None,
    beta: float | None = None,
) -> Tensor:
    """The gradient for the logits, zero where a clamp holds.

    The scale is fixed in AdaRound, BRECQ and QDrop, and the floor has no gradient for the weight.
    `grad`, of the shape of `weight`, and `grad_regularizer`, `[]`, are the gradients of the two
    results of `soft_round`.

    Returns:
        The gradient of `logits`, float32 of the memory format of `weight`.
    """
    grids = ChannelGrids(scale, zero_point, quant_min, quant_max, axis)
    check(weight, logits, grids, beta)
    _check_grads(grad, grad_regularizer, weight)
    grad_logits = torch.empty_like(weight)
    if not has_values(weight):
        return grad_logits
    grids.check_values("soft_round")
    steps, zero = grids.over(weight)
    sigmoid, stretched = stretched_sigmoid(logits)
    h = stretched.clamp(0, 1)
    levels = (weight * steps.reciprocal()).floor() + zero + h
    of_h = torch.where(grids.holds(levels), grad * steps, 0)
    if beta is not None:
        centred = h + h - 1
        power = certainty_power(centred.abs(), beta - 1)
        slope = grad_regularizer * (-2 * beta)
        of_h = of_h + torch.where(centred < 0, -power, power) * slope
    slope = sigmoid * (1 - sigmoid) * (ZETA - GAMMA)
    return grad_logits.copy_(torch.where((stretched >= 0) & (stretched <= 1), of_h * slope, 0))


register_operator(soft_round_backward_reference)


def _check_grads(grad: Tensor, grad_regularizer: Tensor, weight: Tensor) -> None:
    """Reject what the compiled kernels reject, in the words of csrc/common/soft_round.h."""
    check_like("soft_round", "grad", grad, weight)
    check_dtype("soft_round", "grad_regularizer", grad_regularizer, torch.float32)
    check_shape("soft_round", "grad_regularizer", grad_regularizer, [])
    check_device("soft_round", "grad_regularizer", grad_regularizer, weight)
