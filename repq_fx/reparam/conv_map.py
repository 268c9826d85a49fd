"""The affine map that one convolution computes, as a value in float64."""

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import torch
from torch import Tensor

Sides = tuple[int, int]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class MapError(ValueError):
    """An affine map that no single convolution computes."""


@dataclass(frozen=True, eq=False)
class ConvMap:
    """One convolution or linear layer as a value: what it computes, without a module around it.

    Along each spatial axis, tap ``k`` of output position ``i`` reads input position
    ``i * stride - padding_before + k * dilation``; if `transposed`, input position ``i`` is added
    through tap ``k`` to output position ``i * stride - padding_before + k * dilation``. A linear
    layer has no spatial axis, or one tap on each. An axis of one tap has dilation 1. Tensors may
    live on the meta device, where only their shapes are known.

    Attributes:
        kernel: float64 ``[out_channels, in_channels / groups, *taps]``, also if `transposed`.
        bias: float64 ``[out_channels]``; None says that a zero input gives exactly zero.
        stride: Of each axis.
        padding: (before, after) of each axis; negative numbers crop.
        dilation: Of each axis.
        groups: Groups of input and output channels.
        padding_mode: What fills the border, in the words of `torch.nn.Conv2d`.
        transposed: Whether this is a transposed convolution.
        output_padding: Of each axis, for a transposed convolution.
    """

    kernel: Tensor
    bias: Tensor | None = None
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[Sides, ...] = ((0, 0), (0, 0))
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    padding_mode: PaddingMode = "zeros"
    transposed: bool = False
    output_padding: tuple[int, ...] = (0, 0)

    @property
    def spatial_dims(self) -> int:
        """Number of spatial axes."""
        return self.kernel.ndim - 2

    @property
    def taps(self) -> tuple[int, ...]:
        """Size of the kernel along each axis."""
        return tuple(self.kernel.shape[2:])

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.kernel.shape[1] * self.groups

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.kernel.shape[0]

    @property
    def is_pointwise(self) -> bool:
        """Whether each output position reads the input at its own position alone."""
        is_unpadded = not any(map(any, self.padding))
        return prod(self.taps) == 1 and is_unpadded and set(self.stride) <= {1}

    @property
    def parameters(self) -> int:
        """Numbers that a layer would store for this map."""
        return self.kernel.numel() + (0 if self.bias is None else self.bias.numel())


def in_float64(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A detached float64 copy or view of `tensor` on `device`."""
    # Two steps: some devices have no float64, so the tensor has to leave before it is widened.
    return tensor.detach().to(device).to(torch.float64)


def from_kernel(kernel: Tensor, *, groups: int) -> ConvMap:
    """The unpadded map with stride 1 and no bias that applies `kernel`."""
    axes = kernel.ndim - 2
    return ConvMap(
        kernel,
        stride=(1,) * axes,
        padding=((0, 0),) * axes,
        dilation=(1,) * axes,
        groups=groups,
        output_padding=(0,) * axes,
    )


def identity(channels: int, spatial_dims: int = 2, device: torch.device | str = "cpu") -> ConvMap:
    """The map that returns its input: a depthwise kernel of one tap."""
    kernel = torch.ones(channels, 1, *[1] * spatial_dims, dtype=torch.float64, device=device)
    return from_kernel(kernel, groups=channels)


def average(
    channels: int,
    taps: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    divisor: int | None = None,
    device: torch.device | str = "cpu",
) -> ConvMap:
    """Average pooling that counts the zeros of the border, as a depthwise convolution."""
    value = 1 / (divisor or prod(taps))
    kernel = torch.full((channels, 1, *taps), value, dtype=torch.float64, device=device)
    sides = tuple((amount, amount) for amount in padding)
    return replace(from_kernel(kernel, groups=channels), stride=stride, padding=sides)


def with_axes(conv_map: ConvMap, spatial_dims: int) -> ConvMap:
    """A pointwise map, for inputs with another number of spatial axes."""
    kernel = conv_map.kernel.reshape(*conv_map.kernel.shape[:2], *[1] * spatial_dims)
    wide = from_kernel(kernel, groups=conv_map.groups)
    return replace(wide, bias=conv_map.bias)


def pad(conv_map: ConvMap, sides: tuple[Sides, ...]) -> ConvMap:
    """The map followed by padding with the value that it gives to a zero input.

    Args:
        conv_map: The map that comes first.
        sides: (before, after) of each axis; negative numbers crop its output.

    Raises:
        MapError: Padded positions of the output are no positions that the map itself computes.
    """
    if conv_map.transposed:
        raise MapError("it pads the output of a transposed convolution")
    grown = [axis for axis, amounts in enumerate(sides) if max(amounts) > 0]
    for axis in grown:
        if conv_map.taps[axis] > 1 or conv_map.stride[axis] > 1 or any(conv_map.padding[axis]):
            raise MapError("it pads the output of a convolution that is not pointwise")
    if conv_map.padding_mode != "zeros" and grown:
        raise MapError(
            f"it pads the output of a convolution that pads with {conv_map.padding_mode}"
        )
    padding = tuple(
        (before + more_before * step, after + more_after * step)
        for (before, after), (more_before, more_after), step in zip(
            conv_map.padding, sides, conv_map.stride, strict=True
        )
    )
    return replace(conv_map, padding=padding)


def split_padding(conv_map: ConvMap) -> tuple[tuple[Sides, ...] | None, ConvMap]:
    """What no module of torch can pad by itself, and the map that remains after it.

    Returns:
        The (before, after) to pad each axis with, or to crop where negative, or None if opposite
        sides are padded alike; and a map whose opposite sides are.
    """
    if all(before == after >= 0 for before, after in conv_map.padding):
        return None, conv_map
    own = [max(0, min(sides)) for sides in conv_map.padding]
    if conv_map.padding_mode != "zeros":
        own = [0] * len(own)  # what a side repeats depends on how much of it there is
    sides = tuple(
        (before - amount, after - amount)
        for (before, after), amount in zip(conv_map.padding, own, strict=True)
    )
    return sides, replace(conv_map, padding=tuple((amount, amount) for amount in own))
