"""Paddings of minus infinity, or of what stands for it, in front of max pools."""

from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.fx import Node

from ..prepared_view import PreparedView, erase_observer

_MAX_POOLS = (nn.MaxPool2d, F.max_pool2d)
_PADS = (F.pad, nn.ConstantPad2d)
# Converters write the lowest number of a type instead, and people -1e9 or the like.
_MINUS_INFINITY = -1e4


def observe_inside_padding(view: PreparedView) -> None:
    """Let no observer count a padding that is below all values, in place.

    For a max pool the lowest level of a grid is as good. Were it counted, that would be the level
    of the padding and the one next to it that of all values. Where something else reads the padded
    tensor, no grid holds it: it stays in float.
    """
    for node, observer in view.observers.items():
        value = _padding_value(view, node.all_input_nodes[0])
        if not isinstance(value, int | float) or value > _MINUS_INFINITY:
            continue
        if all(view.operation(user) in _MAX_POOLS for user in node.users):
            observer.ignored_value = value
        else:
            erase_observer(node)
    view.graph_module.delete_all_unused_submodules()
    view.graph_module.recompile()


def _padding_value(view: PreparedView, node: Node) -> Any:
    if view.operation(node) not in _PADS:
        return None
    padding: Any = view.module(node)
    if padding is not None:
        return padding.value
    return node.args[3] if len(node.args) > 3 else node.kwargs.get("value")
