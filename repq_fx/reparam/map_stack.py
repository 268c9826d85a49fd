"""Affine maps with their output channels behind each other, or with some of them alone."""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from torch import Tensor

from .conv_map import ConvMap, MapError
from .map_sum import add, regroup


def stack(maps: Sequence[ConvMap]) -> ConvMap:
    """The map ``x -> concatenate([m(x) for m in maps])`` along the channels.

    The result has one group: a group of channels can feed outputs in one place only.

    Raises:
        MapError: A map is transposed, or `add` refuses maps of such a geometry.
    """
    if any(conv_map.transposed for conv_map in maps):
        raise MapError("it concatenates a transposed convolution")
    total = sum(conv_map.out_channels for conv_map in maps)
    ends = [sum(m.out_channels for m in maps[: index + 1]) for index in range(len(maps))]
    return reduce(add, (_placed(m, end, total) for m, end in zip(maps, ends, strict=True)))


def select(conv_map: ConvMap, start: int, end: int) -> ConvMap:
    """The map followed by a slice that keeps the channels from `start` to before `end`.

    The result has one group: those that are left may read some of the input's channels alone.
    """
    joined = regroup(conv_map, 1)
    bias = None if joined.bias is None else joined.bias[start:end]
    return replace(joined, kernel=joined.kernel[start:end], bias=bias)


def _placed(conv_map: ConvMap, end: int, total: int) -> ConvMap:
    """The map with other output channels around its own, which are zero."""
    joined = regroup(conv_map, 1)
    bias = None if joined.bias is None else _rows(joined.bias, end, total)
    return replace(joined, kernel=_rows(joined.kernel, end, total), bias=bias)


def _rows(tensor: Tensor, end: int, total: int) -> Tensor:
    rows = tensor.new_zeros(total, *tensor.shape[1:])
    rows[end - len(tensor) : end] = tensor
    return rows
