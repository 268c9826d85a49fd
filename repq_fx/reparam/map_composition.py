"""One affine map after another as a single one, where the border allows it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import gcd, prod
from typing import Any

import torch
from torch import Tensor

from .conv_map import ConvMap, MapError, PaddingMode, Sides
from .map_sum import regroup


def compose(second: ConvMap, first: ConvMap) -> ConvMap:
    """The map ``x -> second(first(x))``.

    Tap ``k2`` of the second map at output ``i`` reads the first at ``i * s2 - p2 + k2 * d2``, whose
    tap ``k1`` reads the input at ``s1`` times that, less ``p1``, plus ``k1 * d1``. Padding between
    the two stands for outputs of the first map that it does not compute from the input: it must be
    what the first map would give there.

    Raises:
        MapError: Channels differ, a map is transposed, or the border would not be exact.
    """
    if first.out_channels != second.in_channels:
        raise MapError(f"{first.out_channels} channels meet {second.in_channels}")
    if first.transposed or second.transposed:
        raise MapError("a transposed convolution and another one follow each other")
    mode = _padding_mode(second, first)
    bias = _bias(second, first)
    axes = [_composed_axis(second, first, axis) for axis in range(first.spatial_dims)]
    groups = gcd(first.groups, second.groups)
    return replace(
        first,
        kernel=_convolve(second, first, groups, axes),
        bias=bias,
        stride=tuple(s1 * s2 for s1, s2 in zip(first.stride, second.stride, strict=True)),
        padding=tuple(axis.padding for axis in axes),
        dilation=tuple(axis.dilation for axis in axes),
        groups=groups,
        padding_mode=mode,
    )


@dataclass(frozen=True)
class _Axis:
    """The taps of a composition along one axis, and how far apart the two maps' taps are there."""

    taps: int
    dilation: int
    padding: Sides
    outer_step: int
    inner_step: int


def _composed_axis(second: ConvMap, first: ConvMap, axis: int) -> _Axis:
    # The second map's taps, in positions of the input.
    outer, inner = second.dilation[axis] * first.stride[axis], first.dilation[axis]
    steps = [s for s, m in ((outer, second), (inner, first)) if m.taps[axis] > 1]
    common = gcd(*steps) or 1
    taps = (outer * (second.taps[axis] - 1) + inner * (first.taps[axis] - 1)) // common + 1
    before, after = (
        p1 + p2 * first.stride[axis]
        for p1, p2 in zip(first.padding[axis], second.padding[axis], strict=True)
    )
    # One tap has no step; 1 serves.
    return _Axis(taps, common, (before, after), max(1, outer // common), max(1, inner // common))


def _padding_mode(second: ConvMap, first: ConvMap) -> PaddingMode:
    """What fills the border of the whole, after checking that the border is exact."""
    padded = [axis for axis, sides in enumerate(second.padding) if max(sides) > 0]
    if not padded:
        return first.padding_mode
    for axis in padded:
        if first.taps[axis] > 1 or min(first.padding[axis]) < 0:
            raise MapError("it pads between two kernels larger than one tap, whose border differs")
        if any(first.padding[axis]) and {first.padding_mode, second.padding_mode} != {"zeros"}:
            raise MapError(f"it pads with {first.padding_mode} and then {second.padding_mode}")
    mode = second.padding_mode
    if mode == "zeros":
        if first.bias is not None:
            raise MapError("it pads with zeros after a bias, so the border would differ")
    elif any(first.stride[axis] > 1 for axis in padded):
        raise MapError(f"it pads with {mode} after a stride")
    if any(map(any, first.padding)) and first.padding_mode != mode:
        raise MapError(f"its convolutions pad with {first.padding_mode} and {mode}")
    return mode


def _bias(second: ConvMap, first: ConvMap) -> Tensor | None:
    if first.bias is None:
        return second.bias
    summed = second.kernel.reshape(*second.kernel.shape[:2], -1).sum(2)
    by_group = first.bias.reshape(second.groups, 1, -1)
    bias = (summed.reshape(second.groups, -1, summed.shape[1]) * by_group).sum(2).reshape(-1)
    return bias if second.bias is None else bias + second.bias


def _convolve(second: ConvMap, first: ConvMap, groups: int, axes: Sequence[_Axis]) -> Tensor:
    """The kernel: for each tap of the second map, the first map's taps from there on."""
    multiply = _ChannelProduct(second, first, groups)
    shape = (second.out_channels, first.in_channels // groups, *(axis.taps for axis in axes))
    kernel = torch.zeros(shape, dtype=first.kernel.dtype, device=first.kernel.device)
    for index in product(*map(range, second.taps)):
        places = [slice(None), slice(None)]
        for axis, position, taps in zip(axes, index, first.taps, strict=True):
            start = position * axis.outer_step
            places.append(slice(start, start + (taps - 1) * axis.inner_step + 1, axis.inner_step))
        tap: Any = (..., *index)
        kernel[tuple(places)] += multiply(second.kernel[tap])
    return kernel


class _ChannelProduct:
    """Maps one tap ``[out, mid / groups]`` of the second kernel to its product with the first."""

    def __init__(self, second: ConvMap, first: ConvMap, groups: int) -> None:
        self._groups = groups
        self._first = first
        self._second_groups = second.groups
        # Depthwise maps only scale; as dense ones they would be squares of zeros.
        self._scales_output = second.kernel.shape[1] == 1 and second.groups == second.out_channels
        self._scales_input = first.kernel.shape[1] == 1 and first.groups == first.out_channels
        if not (self._scales_output or self._scales_input):
            self._blocks = regroup(first, groups).kernel

    def __call__(self, tap: Tensor) -> Tensor:
        ones = [1] * self._first.spatial_dims
        kernel = self._first.kernel
        if self._scales_output:
            return tap.reshape(-1, 1, *ones) * kernel
        groups = self._second_groups
        if self._scales_input:
            scale = kernel.reshape(groups, 1, tap.shape[1], *kernel.shape[2:])
            grouped = tap.reshape(groups, -1, tap.shape[1], *ones) * scale
            return grouped.reshape(tap.shape[0], tap.shape[1], *kernel.shape[2:])
        wide = _regroup_tap(tap, groups, self._groups)
        blocks = self._blocks.reshape(self._groups, -1, prod(self._blocks.shape[1:]))
        joined = wide.reshape(self._groups, -1, wide.shape[1]) @ blocks
        return joined.reshape(tap.shape[0], *self._blocks.shape[1:])


def _regroup_tap(tap: Tensor, old: int, new: int) -> Tensor:
    taps = tap.reshape(*tap.shape, 1)
    return regroup(ConvMap(taps, groups=old), new).kernel.reshape(tap.shape[0], -1)
