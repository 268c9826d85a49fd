"""The gradient of `soft_round` and of its regularizer for the logits, in one pass."""

import torch
from torch import Tensor

from .reference.grid import broadcast, check_dtype, check_like, check_scale_values
from .soft_round import GAMMA, ZETA, certainty_power, check, stretched_sigmoid

NAME = "repq_fx::soft_round_backward"

torch.library.define(
    NAME,
    "(Tensor grad, Tensor grad_regularizer, Tensor weight, Tensor logits, Tensor scale,"
    " Tensor zero_point, int quant_min, int quant_max, int? axis=None, float? beta=None) -> Tensor",
)


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
    """What every kernel of `soft_round_backward` computes, in plain PyTorch.

    `grad`, of the shape of `weight`, and `grad_regularizer`, `[]`, are the gradients of the two
    results of `soft_round`.

    Returns:
        The gradient of `logits`, float32 of the memory format of `weight`.
    """
    check(weight, logits, scale, zero_point, quant_min, quant_max, axis, beta)
    check_scale_values("soft_round", scale)
    _check_grads(grad, grad_regularizer, weight)
    scale = broadcast(scale, weight, axis)
    zero = broadcast(zero_point, weight, axis).float().round()
    sigmoid, stretched = stretched_sigmoid(logits)
    h = stretched.clamp(0, 1)
    levels = (weight * scale.reciprocal()).floor() + zero + h
    of_h = torch.where((levels >= quant_min) & (levels <= quant_max), grad * scale, 0)
    if beta is not None:
        centred = h + h - 1
        power = certainty_power(centred.abs(), beta - 1)
        slope = grad_regularizer * (-2 * beta)
        of_h = of_h + torch.where(centred < 0, -power, power) * slope
    slope = sigmoid * (1 - sigmoid) * (ZETA - GAMMA)
    grad_logits = torch.where((stretched >= 0) & (stretched <= 1), of_h * slope, 0)
    return torch.empty_like(weight).copy_(grad_logits)


def _check_grads(grad: Tensor, grad_regularizer: Tensor, weight: Tensor) -> None:
    """Reject what the compiled kernels reject, in the words of csrc/common/soft_round.h."""
    check_like("soft_round", "grad", grad, weight)
    check_dtype("soft_round", "grad_regularizer", grad_regularizer, torch.float32)
    if grad_regularizer.dim() != 0:
        raise ValueError(
            f"soft_round: expected grad_regularizer of shape [], got {list(grad_regularizer.shape)}"
        )
    if grad_regularizer.device != weight.device:
        raise ValueError(
            f"soft_round: expected grad_regularizer on {weight.device}, "
            f"got {grad_regularizer.device}"
        )


def _fake(  # noqa: PLR0913, PLR0917
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
    check(weight, logits, scale, zero_point, quant_min, quant_max, axis, beta)
    _check_grads(grad, grad_regularizer, weight)
    return torch.empty_like(weight)


torch.library.impl(NAME, "CompositeExplicitAutograd", soft_round_backward_reference)
torch.library.register_fake(NAME, _fake)
