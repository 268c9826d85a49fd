"""The affine map that one convolution computes, in float64, from and to `torch.nn.Conv2d`."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Pair = tuple[int, int]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class MapError(ValueError):
    """An affine map that no single convolution computes."""


@dataclass(frozen=True, eq=False)
class ConvMap:
    """One convolution as a value: what it computes, without a module around it.

    Along each spatial axis, tap ``k`` of output position ``i`` reads input position
    ``i * stride - padding_before + k * dilation``. An axis of one tap has dilation 1. Tensors may
    live on the meta device, where only their shapes are known.

    Attributes:
        kernel: float64 ``[out_channels, in_channels / groups, kernel_height, kernel_width]``.
        bias: float64 ``[out_channels]``; None says that a zero input gives exactly zero.
        stride: (vertical, horizontal).
        padding: ((top, bottom), (left, right)).
        dilation: (vertical, horizontal).
        groups: Groups of input and output channels.
        padding_mode: What fills the border, in the words of `torch.nn.Conv2d`.
    """

    kernel: Tensor
    bias: Tensor | None = None
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1
    padding_mode: PaddingMode = "zeros"

    @property
    def kernel_size(self) -> Pair:
        """(vertical, horizontal) taps."""
        return self.kernel.shape[2], self.kernel.shape[3]

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.kernel.shape[1] * self.groups

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.kernel.shape[0]


def in_float64(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A detached float64 copy or view of `tensor` on `device`."""
    # Two steps: some devices have no float64, so the tensor has to leave before it is widened.
    return tensor.detach().to(device).to(torch.float64)


def from_conv2d(conv: nn.Conv2d, device: torch.device | str = "cpu") -> ConvMap:
    """The map of `conv`, whose input is ``[N, in_channels, H, W]``.

    Args:
        conv: Any `torch.nn.Conv2d`; string paddings are resolved.
        device: Where the float64 tensors of the map go.
    """
    kernel = in_float64(conv.weight, device)
    dilation = tuple(
        step if taps > 1 else 1 for step, taps in zip(conv.dilation, conv.kernel_size, strict=True)
    )
    return ConvMap(
        kernel=kernel,
        bias=None if conv.bias is None else in_float64(conv.bias, device),
        stride=_pair(conv.stride),
        padding=(_padding(conv, 0), _padding(conv, 1)),
        dilation=_pair(dilation),
        groups=conv.groups,
        padding_mode=conv.padding_mode,
    )


def identity(channels: int, device: torch.device | str = "cpu") -> ConvMap:
    """The map that returns its input: a depthwise 1x1 kernel of ones."""
    return ConvMap(
        torch.ones(channels, 1, 1, 1, dtype=torch.float64, device=device), groups=channels
    )


def conv2d_padding(conv_map: ConvMap) -> Pair:
    """The ``padding`` argument of the `torch.nn.Conv2d` that computes `conv_map`.

    Raises:
        MapError: The two sides of an axis differ, which `torch.nn.Conv2d` cannot express.
    """
    (top, bottom), (left, right) = conv_map.padding
    if top != bottom or left != right:
        raise MapError(
            f"it needs padding top {top}, bottom {bottom}, left {left}, right {right}, "
            f"but one convolution pads opposite sides alike"
        )
    return top, left


def to_conv2d(conv_map: ConvMap, *, like: Tensor, requires_grad: bool) -> nn.Conv2d:
    """The module that computes `conv_map`, in evaluation mode.

    No random numbers are drawn, so the global generators stay as they are.

    Args:
        conv_map: The map; its tensors hold values.
        like: An original weight, which gives dtype, device and memory format.
        requires_grad: Whether weight and bias do.

    Raises:
        MapError: `torch.nn.Conv2d` cannot express the padding.
    """
    conv = nn.Conv2d(
        conv_map.in_channels,
        conv_map.out_channels,
        conv_map.kernel_size,
        stride=conv_map.stride,
        padding=conv2d_padding(conv_map),
        dilation=conv_map.dilation,
        groups=conv_map.groups,
        bias=conv_map.bias is not None,
        padding_mode=conv_map.padding_mode,
        device="meta",
    )
    weight = _cast(conv_map.kernel, like).contiguous(memory_format=_memory_format(like))
    conv.weight = nn.Parameter(weight, requires_grad=requires_grad)
    if conv_map.bias is not None:
        conv.bias = nn.Parameter(_cast(conv_map.bias, like), requires_grad=requires_grad)
    return conv.eval()


def _cast(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor.to(like.dtype).to(like.device)


def _memory_format(weight: Tensor) -> torch.memory_format:
    if not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def _pair(values: tuple[int, ...]) -> Pair:
    vertical, horizontal = values
    return vertical, horizontal


def _padding(conv: nn.Conv2d, axis: int) -> Pair:
    if conv.padding == "valid":
        return 0, 0
    if conv.padding == "same":
        total = conv.dilation[axis] * (conv.kernel_size[axis] - 1)
        return total // 2, total - total // 2
    amount = int(conv.padding[axis])
    return amount, amount
