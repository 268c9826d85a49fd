"""Maps from and to the layers of torch: convolutions, transposed ones and linear layers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .conv_map import ConvMap, MapError, Sides, from_kernel, in_float64

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
TransposedConv = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
_Layer = TypeVar("_Layer", bound=Conv | TransposedConv | nn.Linear)

_CONVS: Mapping[int, Any] = MappingProxyType({1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d})
_TRANSPOSED_CONVS: Mapping[int, Any] = MappingProxyType(
    {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
)


def from_conv(conv: Conv | TransposedConv, device: torch.device | str = "cpu") -> ConvMap:
    """The map of `conv`, whose input is ``[N, in_channels, *spatial]``.

    Args:
        conv: A convolution; string paddings are resolved.
        device: Where the float64 tensors of the map go.
    """
    geometry = Geometry(
        conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode,
        conv.output_padding if conv.transposed else None,
    )  # fmt: skip
    return conv_map(conv.weight, conv.bias, geometry, device)


@dataclass(frozen=True)
class Geometry:
    """The arguments of a convolution but for its weight and bias.

    Attributes:
        stride: Of each axis.
        padding: Of each axis, ``"same"`` or ``"valid"``.
        dilation: Of each axis.
        groups: Groups of channels.
        padding_mode: As for `ConvMap`.
        output_padding: Of each axis, which makes the convolution a transposed one.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str = "zeros"
    output_padding: tuple[int, ...] | None = None


def conv_map(
    weight: Tensor, bias: Tensor | None, geometry: Geometry, device: torch.device | str = "cpu"
) -> ConvMap:
    """The map of a convolution that is given by its arguments.

    Args:
        weight: In torch's layout, which for a transposed convolution begins with input channels.
        bias: ``[out_channels]`` or None.
        geometry: The other arguments.
        device: Where the float64 tensors of the map go.
    """
    is_transposed = geometry.output_padding is not None
    kernel = in_float64(weight, device)
    taps = tuple(kernel.shape[2:])
    mode: Any = geometry.padding_mode
    return ConvMap(
        kernel=_swap_channels(kernel, geometry.groups) if is_transposed else kernel,
        bias=None if bias is None else in_float64(bias, device),
        stride=tuple(geometry.stride),
        padding=tuple(_sides(geometry, axis, taps) for axis in range(len(taps))),
        dilation=tuple(d if k > 1 else 1 for d, k in zip(geometry.dilation, taps, strict=True)),
        groups=geometry.groups,
        padding_mode=mode,
        transposed=is_transposed,
        output_padding=tuple(geometry.output_padding or (0,) * len(taps)),
    )


def from_linear(
    weight: Tensor, bias: Tensor | None, spatial_dims: int, device: torch.device | str = "cpu"
) -> ConvMap:
    """The map of a linear layer with weight ``[out, in]`` at every position of its input."""
    kernel = in_float64(weight, device).reshape(*weight.shape, *[1] * spatial_dims)
    return replace(
        from_kernel(kernel, groups=1), bias=None if bias is None else in_float64(bias, device)
    )


def to_conv(conv_map: ConvMap, *, like: Tensor, requires_grad: bool) -> Conv | TransposedConv:
    """The module that computes `conv_map` on ``[N, in_channels, *spatial]``, in evaluation mode.

    No random numbers are drawn, so the global generators stay as they are.

    Args:
        conv_map: The map, with 1 to 3 spatial axes; its tensors hold values.
        like: An original weight, which gives dtype, device and memory format.
        requires_grad: Whether weight and bias do.

    Raises:
        MapError: Opposite sides differ in padding, or are cropped; see `split_padding`.
    """
    if any(before != after or before < 0 for before, after in conv_map.padding):
        raise MapError(f"no module pads (before, after) by {conv_map.padding}")
    options: dict[str, Any] = {
        "stride": conv_map.stride,
        "padding": tuple(before for before, _ in conv_map.padding),
        "dilation": conv_map.dilation,
        "groups": conv_map.groups,
        "bias": conv_map.bias is not None,
        "device": "meta",
    }
    channels = conv_map.in_channels, conv_map.out_channels
    conv: Conv | TransposedConv
    kernel = conv_map.kernel
    if conv_map.transposed:
        kernel = _swap_channels(kernel, conv_map.groups)
        options["output_padding"] = conv_map.output_padding
        conv = _TRANSPOSED_CONVS[conv_map.spatial_dims](*channels, conv_map.taps, **options)
    else:
        options["padding_mode"] = conv_map.padding_mode
        conv = _CONVS[conv_map.spatial_dims](*channels, conv_map.taps, **options)
    return _filled(conv, replace(conv_map, kernel=kernel), like, requires_grad=requires_grad)


def to_linear(conv_map: ConvMap, *, like: Tensor, requires_grad: bool) -> nn.Linear:
    """The module that computes `conv_map` on ``[..., in_channels]``, in evaluation mode.

    Raises:
        MapError: The map reads more than one position.
    """
    if not conv_map.is_pointwise or conv_map.groups != 1:
        raise MapError(f"its kernel of {conv_map.taps} taps is no linear layer")
    has_bias = conv_map.bias is not None
    linear = nn.Linear(conv_map.in_channels, conv_map.out_channels, bias=has_bias, device="meta")
    kernel = conv_map.kernel.reshape(conv_map.kernel.shape[:2])
    return _filled(linear, replace(conv_map, kernel=kernel), like, requires_grad=requires_grad)


def _filled(layer: _Layer, conv_map: ConvMap, like: Tensor, *, requires_grad: bool) -> _Layer:
    weight = _cast(conv_map.kernel, like)
    keeps_format = weight.ndim == 4 and _is_channels_last(like)
    memory_format = torch.channels_last if keeps_format else torch.contiguous_format
    weight = weight.contiguous(memory_format=memory_format)
    layer.weight = nn.Parameter(weight, requires_grad)
    if conv_map.bias is not None:
        layer.bias = nn.Parameter(_cast(conv_map.bias, like), requires_grad)
    layer.eval()
    return layer


def _cast(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor.to(like.dtype).to(like.device)


def _is_channels_last(weight: Tensor) -> bool:
    return (
        weight.ndim == 4
        and not weight.is_contiguous()
        and weight.is_contiguous(memory_format=torch.channels_last)
    )


def _swap_channels(kernel: Tensor, groups: int) -> Tensor:
    """From ``[out, in / groups, *taps]`` to ``[in, out / groups, *taps]``, or back."""
    grouped = kernel.reshape(groups, -1, *kernel.shape[1:])
    return grouped.transpose(1, 2).reshape(-1, kernel.shape[0] // groups, *kernel.shape[2:])


def _sides(geometry: Geometry, axis: int, taps: tuple[int, ...]) -> Sides:
    padding = geometry.padding
    if padding == "valid":
        return 0, 0
    if padding == "same":
        total = geometry.dilation[axis] * (taps[axis] - 1)
        return total // 2, total - total // 2
    amount = int(padding[axis])
    return amount, amount
