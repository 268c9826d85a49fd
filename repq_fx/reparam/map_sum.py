"""The sum of two affine maps of one input: common groups, aligned taps, one kernel."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd

import torch
from torch import Tensor

from .conv_map import ConvMap, MapError, PaddingMode, Sides


def add(first: ConvMap, second: ConvMap) -> ConvMap:
    """The map ``x -> first(x) + second(x)``.

    Kernels are aligned where their taps read, not at their centres: a kernel with less padding
    starts ``padding_big - padding_small`` positions later. The result has the largest number of
    groups that both maps can be written with, and the largest dilation whose grid holds all taps.

    With a stride, the maps may drop different numbers of positions at the end of the input, as a
    3x3 kernel padded by one and pooling of 2x2 do. The result is the sum for all sizes of the
    input at which the two outputs have one size. At the others torch refuses the sum, or repeats an
    output of a single position, which no convolution does.

    Raises:
        MapError: Strides, channels or padding modes differ, or output sizes do for every input.
    """
    _require_same_outputs(first, second)
    groups = gcd(first.groups, second.groups)
    axes = [_common_axis(first, second, axis) for axis in range(first.spatial_dims)]
    kernel = _added(regroup(first, groups), regroup(second, groups), axes)
    return replace(
        first,
        kernel=kernel,
        bias=_add_biases(first.bias, second.bias),
        padding=tuple(axis.padding for axis in axes),
        dilation=tuple(axis.dilation for axis in axes),
        groups=groups,
        padding_mode=_common_padding_mode(first, second),
    )


def regroup(conv_map: ConvMap, groups: int) -> ConvMap:
    """The same map with fewer groups: blocks of zeros join channels that did not interact.

    Args:
        conv_map: The map to write with wider groups.
        groups: A divisor of its groups.

    Raises:
        MapError: `groups` does not divide the groups of `conv_map`.
    """
    if conv_map.groups % groups:
        raise MapError(f"{conv_map.groups} groups cannot be joined into {groups}")
    joined = conv_map.groups // groups
    if joined == 1:
        return conv_map
    outputs, inputs, *taps = conv_map.kernel.shape
    blocks = conv_map.kernel.reshape(groups, joined, outputs // conv_map.groups, 1, inputs, -1)
    diagonal = torch.eye(joined, dtype=blocks.dtype, device=blocks.device)
    kernel = blocks * diagonal.reshape(1, joined, 1, joined, 1, 1)
    kernel = kernel.reshape(outputs, joined * inputs, *taps)
    return replace(conv_map, kernel=kernel, groups=groups)


@dataclass(frozen=True)
class _Axis:
    """The grid of taps along one spatial axis."""

    taps: int
    dilation: int
    padding: Sides


def _common_axis(first: ConvMap, second: ConvMap, axis: int) -> _Axis:
    maps = (first, second)
    before = [m.padding[axis][0] for m in maps]
    steps = [m.dilation[axis] for m in maps if m.taps[axis] > 1]
    step = gcd(*steps, before[0] - before[1]) or 1
    last = max(_last_tap(m, axis) for m in maps)
    taps = (max(before) + last) // step + 1
    padding = (max(before), last - _common_slack(first, second, axis, max(before), last))
    return _Axis(taps, step if taps > 1 else 1, padding)


def _added(first: ConvMap, second: ConvMap, axes: Sequence[_Axis]) -> Tensor:
    """The sum of two kernels, spread over a grid that contains the taps of both."""
    taps = tuple(axis.taps for axis in axes)
    if second.taps == taps:
        first, second = second, first
    if first.taps == taps:
        total = first.kernel.clone()
    else:
        total = first.kernel.new_zeros(*first.kernel.shape[:2], *taps)
        total[_places(first, axes)] = first.kernel
    total[_places(second, axes)] += second.kernel
    return total


def _places(conv_map: ConvMap, axes: Sequence[_Axis]) -> tuple[slice, ...]:
    taps_on = (_taps_on(conv_map, index, axis) for index, axis in enumerate(axes))
    return (slice(None), slice(None), *taps_on)


def _taps_on(conv_map: ConvMap, axis: int, grid: _Axis) -> slice:
    start = (grid.padding[0] - conv_map.padding[axis][0]) // grid.dilation
    step = max(1, conv_map.dilation[axis] // grid.dilation)
    return slice(start, start + (conv_map.taps[axis] - 1) * step + 1, step)


def _last_tap(conv_map: ConvMap, axis: int) -> int:
    """Where the last tap of output position 0 reads."""
    extent = (conv_map.taps[axis] - 1) * conv_map.dilation[axis]
    return extent - conv_map.padding[axis][0]


def _slack(conv_map: ConvMap, axis: int) -> int:
    return _last_tap(conv_map, axis) - conv_map.padding[axis][1]


def _common_slack(first: ConvMap, second: ConvMap, axis: int, before: int, last: int) -> int:
    """One of two slacks, with which the sum is padded alike on both sides if that is possible."""
    slacks = _slack(first, axis), _slack(second, axis)
    alike = last - before  # A module of torch then needs no padding beside it.
    return alike if alike in slacks else max(slacks)


def _require_same_outputs(first: ConvMap, second: ConvMap) -> None:
    if first.transposed or second.transposed:
        _require_same_geometry(first, second)
    if first.stride != second.stride:
        raise MapError(f"its branches have strides {first.stride} and {second.stride}")
    for name in ("in_channels", "out_channels"):
        counts = getattr(first, name), getattr(second, name)
        if counts[0] != counts[1]:
            raise MapError(f"its branches have {counts[0]} and {counts[1]} {name}")
    for axis in range(first.spatial_dims):
        # How far the last tap reaches past the last output's anchor decides the size of the output:
        # with differences below the stride, it is the same for some sizes of the input.
        if abs(_slack(first, axis) - _slack(second, axis)) >= first.stride[axis]:
            raise MapError(f"its branches have outputs of different sizes along axis {2 + axis}")


def _require_same_geometry(first: ConvMap, second: ConvMap) -> None:
    for name in ("transposed", "taps", "stride", "padding", "dilation", "output_padding"):
        ours, theirs = getattr(first, name), getattr(second, name)
        if ours != theirs:
            raise MapError(f"its transposed branches differ in {name}: {ours} and {theirs}")


def _common_padding_mode(first: ConvMap, second: ConvMap) -> PaddingMode:
    modes = {m.padding_mode for m in (first, second) if any(map(any, m.padding))}
    if len(modes) > 1:
        raise MapError(f"its branches pad with {' and '.join(sorted(modes))}")
    return modes.pop() if modes else "zeros"


def _add_biases(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return first if second is None else second
    return first + second
