"""Slices of tensors, as Python writes them."""

import sys
from typing import Any

from torch.fx import Node

from ..instructions import Instruction, Select, Slice


def slices_of(node: Node) -> list[Instruction] | None:
    """The steps of ``tensor[index]``, or None where it does more than slice and select."""
    index = node.args[1]
    items = list(index) if isinstance(index, tuple) else [index]
    if items.count(Ellipsis) > 1:
        return None
    # Behind an ellipsis axes count from the end.
    before = items.index(Ellipsis) if Ellipsis in items else len(items)
    axes = [axis if axis < before else axis - len(items) for axis in range(len(items))]
    placed = [(axis, item) for axis, item in zip(axes, items, strict=True) if item is not Ellipsis]
    if not all(_is_plain(item) for _, item in placed):
        return None
    slices: list[Instruction] = [
        Slice(axis, item.start or 0, _stop(item), item.step or 1)
        for axis, item in placed
        if isinstance(item, slice) and item != slice(None)
    ]
    # An axis that goes must not move those that are still to go.
    gone = [(axis, item) for axis, item in placed if isinstance(item, int)]
    gone.sort(key=lambda each: -each[0] if each[0] >= 0 else each[0])
    return slices + [Select(axis, item) for axis, item in gone] or None


def _stop(item: slice) -> int:
    return sys.maxsize if item.stop is None else int(item.stop)


def _is_plain(item: Any) -> bool:
    if not isinstance(item, slice):
        return isinstance(item, int) and not isinstance(item, bool)
    numbers = [each for each in (item.start, item.stop, item.step) if each is not None]
    return all(isinstance(each, int) for each in numbers) and (item.step is None or item.step > 0)
