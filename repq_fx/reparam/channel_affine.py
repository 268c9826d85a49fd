"""A per-channel scale and shift after an affine map, and batch normalization as one."""

from dataclasses import replace

import torch
from torch import Tensor

from .conv_map import ConvMap, in_float64


def batch_norm_scale_shift(
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """What batch normalization computes in evaluation mode: ``scale * x + shift``.

    Args:
        mean: Running mean ``[C]``.
        variance: Running variance ``[C]``.
        weight: ``[C]``, or None for ones.
        bias: ``[C]``, or None for zeros.
        eps: Added to the variance.
        device: Where the results go.

    Returns:
        scale and shift, float64 ``[C]``.
    """
    scale = torch.rsqrt(in_float64(variance, device) + eps)
    if weight is not None:
        scale = scale * in_float64(weight, device)
    shift = -in_float64(mean, device) * scale
    if bias is not None:
        shift = shift + in_float64(bias, device)
    return scale, shift


def scale_channels(conv_map: ConvMap, scale: Tensor | float) -> ConvMap:
    """The map followed by a multiplication; the number 1 returns the map itself.

    Args:
        conv_map: The map that comes first.
        scale: One number, or a tensor ``[out_channels]`` or ``[1]``.
    """
    if not isinstance(scale, Tensor) and scale == 1:
        return conv_map
    by_channel = scale
    if isinstance(scale, Tensor):
        by_channel = scale.reshape(-1, *[1] * (conv_map.kernel.ndim - 1))
    bias = None if conv_map.bias is None else conv_map.bias * scale
    return replace(conv_map, kernel=conv_map.kernel * by_channel, bias=bias)


def shift_channels(conv_map: ConvMap, shift: Tensor | float) -> ConvMap:
    """The map followed by an addition; the number 0 leaves a map without bias without one.

    Args:
        conv_map: The map that comes first.
        shift: One number, or a tensor ``[out_channels]`` or ``[1]``.
    """
    if not isinstance(shift, Tensor) and shift == 0:
        return conv_map
    bias = conv_map.bias
    if bias is None:
        bias = conv_map.kernel.new_zeros(conv_map.out_channels)
    return replace(conv_map, bias=bias + shift)
