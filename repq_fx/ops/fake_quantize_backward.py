"""The gradients of `fake_quantize` for its input, its scale and its zero point, in one pass."""

import torch
from torch import Tensor

from .fake_quantize import check, is_kept
from .reference.block_sum import channel_sums
from .reference.channel_grids import ChannelGrids
from .reference.checks import check_like
from .reference.rounding import round_levels
from .registration import has_values, register_operator


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
    """Pass on `grad`, the gradient of the output of `fake_quantize`, in one pass.

    It rounds `input` again: storing a mask would be no faster, as the scale's gradient reads
    `input` too. The gradient is straight through for an input inside the grid, zero outside. For
    `scale` it is that of LSQ (Esser et al., 2020, eq. 3): `round(x / scale) - x / scale` inside,
    the nearest end of the grid outside, summed over what shares the scale; LSQ's step size factor
    is left to the caller. For `zero_point` it is that of LSQ+ (Bhalgat et al., 2020): zero inside,
    `-scale` outside. A value that was kept passes its gradient on, and adds to no other. The sums
    are float64 in a fixed order.

    Returns:
        The gradients of `input`, in its dtype and memory format, and of scale and zero point,
        both float32 of the shape of `scale`.
    """
    grids = ChannelGrids(scale, zero_point, quant_min, quant_max, axis)
    check(input, grids, rounding, keep)
    check_like("fake_quantize", "grad", grad, input)
    gradients = torch.empty_like(input), torch.empty_like(scale), torch.empty_like(scale)
    if not has_values(input):
        return gradients
    grids.check_values("fake_quantize")
    steps, zero = grids.over(input)
    scaled = input.float() * steps.reciprocal()
    levels = round_levels(scaled, rounding, seed) + zero
    inside, rounded = grids.holds(levels), grids.clamp(levels) - zero
    share = grad.float() * torch.where(inside, rounded - scaled, rounded)
    if keep > 0:
        kept = is_kept(input, keep, seed)
        inside, share = inside | kept, torch.where(kept, 0, share)
    of_input, of_scale, of_zero_point = gradients
    of_input.copy_(torch.where(inside, grad, 0))
    of_scale.copy_(channel_sums(share, input, axis).view_as(scale))
    outside = channel_sums(torch.where(inside, 0, grad.float()), input, axis).float()
    of_zero_point.copy_(-scale * outside.view_as(scale))
    return gradients


register_operator(fake_quantize_backward_reference)
