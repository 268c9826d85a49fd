"""The gradients of `fake_quantize` for its input, its scale and its zero point, in one pass."""

import torch
from torch import Tensor

from .fake_quantize import check, is_kept
from .reference.block_sum import channel_sums
from .reference.grid import broadcast, check_like, check_scale_values
from .reference.rounding import round_levels

NAME = "repq_fx::fake_quantize_backward"

torch.library.define(
    NAME,
    "(Tensor grad, Tensor input, Tensor scale, Tensor zero_point, int quant_min, int quant_max,"
    " int? axis=None, int rounding=0, float keep=0., int seed=0) -> (Tensor, Tensor, Tensor)",
)


def fake_quantize_backward_reference(  # noqa: PLR0913, PLR0917 -- the operator's schema
    grad: Tensor,
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
    axis: int | None = None,
    rounding: int = 0,
    keep: float = 0.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """What every kernel of `fake_quantize_backward` computes, in plain PyTorch.

    The formulas are in `fake_quantize`, of whose output `grad` is the gradient.

    Returns:
        The gradients of `input`, in its dtype and memory format, and of scale and zero point,
        both float32 of the shape of `scale`.
    """
    check(input, scale, zero_point, quant_min, quant_max, axis, rounding, keep)
    check_scale_values("fake_quantize", scale)
    check_like("fake_quantize", "grad", grad, input)
    zero = broadcast(zero_point, input, axis).float().round()
    scaled = input.float() * broadcast(scale, input, axis).reciprocal()
    levels = round_levels(scaled, rounding, seed) + zero
    inside = (levels >= quant_min) & (levels <= quant_max)
    steps = levels.clamp(quant_min, quant_max) - zero
    share = grad.float() * torch.where(inside, steps - scaled, steps)
    if keep > 0:
        kept = is_kept(input, keep, seed)
        inside, share = inside | kept, torch.where(kept, 0, share)

    grad_input = torch.empty_like(input).copy_(torch.where(inside, grad, 0))
    grad_scale = channel_sums(share, input, axis).float().view_as(scale)
    outside = channel_sums(torch.where(inside, 0, grad.float()), input, axis).float()
    return grad_input, grad_scale, -scale * outside.view_as(scale)


def _fake(  # noqa: PLR0913, PLR0917
    grad: Tensor,
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    quant_min: int,
    quant_max: int,
    axis: int | None = None,
    rounding: int = 0,
    keep: float = 0.0,
    seed: int = 0,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor]:
    check(input, scale, zero_point, quant_min, quant_max, axis, rounding, keep)
    check_like("fake_quantize", "grad", grad, input)
    return torch.empty_like(input), torch.empty_like(scale), torch.empty_like(scale)


torch.library.impl(NAME, "CompositeExplicitAutograd", fake_quantize_backward_reference)
torch.library.register_fake(NAME, _fake)
