"""Paddings of minus infinity in front of max pools."""

import math
from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.fx import GraphModule, Node

from .unread_observers import erase_observer, observer_of, operation_of

_MAX_POOLS = (nn.MaxPool2d, F.max_pool2d)
_PADS = (F.pad, nn.ConstantPad2d)


def observe_inside_padding(prepared: GraphModule) -> None:
    """Let no observer count a padding of minus infinity, in place.

    For a max pool the lowest level of a grid is as good. Where something else reads the padded
    tensor, no grid holds it: it stays in float.
    """
    for node in list(prepared.graph.nodes):
        observer = observer_of(prepared, node)
        if observer is None or _padding_value(prepared, node.all_input_nodes[0]) != -math.inf:
            continue
        if all(operation_of(prepared, user) in _MAX_POOLS for user in node.users):
            observer.ignores_minus_infinity = True
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
