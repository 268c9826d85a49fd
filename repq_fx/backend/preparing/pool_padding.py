"""Paddings of minus infinity, or of what stands for it, in front of max pools."""

from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.fx import GraphModule, Node

from .unread_observers import erase_observer, observer_of, operation_of

_MAX_POOLS = (nn.MaxPool2d, F.max_pool2d)
_PADS = (F.pad, nn.ConstantPad2d)
# Converters write the lowest number of a type instead, and people -1e9 or the like.
_MINUS_INFINITY = -1e4


def observe_inside_padding(prepared: GraphModule) -> None:
    """Let no observer count a padding that is below all values, in place.

    For a max pool the lowest level of a grid is as good. Were it counted, that would be the level
    of the padding and the one next to it that of all values. Where something else reads the padded
    tensor, no grid holds it: it stays in float.
    """
    for node in list(prepared.graph.nodes):
        observer = observer_of(prepared, node)
        if observer is None:
            continue
        value = _padding_value(prepared, node.all_input_nodes[0])
        if not isinstance(value, int | float) or value > _MINUS_INFINITY:
            continue
        if all(operation_of(prepared, user) in _MAX_POOLS for user in node.users):
            observer.ignored_value = value
        else:
            erase_observer(node)
    prepared.delete_all_unused_submodules()
    prepared.recompile()


def _padding_value(prepared: GraphModule, node: Node) -> Any:
    if operation_of(prepared, node) not in _PADS:
        return None
    if node.op == "call_module":
        return prepared.get_submodule(str(node.target)).value
    return node.args[3] if len(node.args) > 3 else node.kwargs.get("value")
