"""Movements of levels that no instruction knows: torch moves bytes as it would move numbers."""

import operator
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node

from ...reference_view import ReferenceView, is_dequantize, levels_of
from ..instructions import LevelGrid
from ..rule import Moved, Source
from .images import CUTS
from .pointwise import between_grids

# Each element of the result is one of the first argument.
_MOVEMENTS: tuple[Any, ...] = (
    torch.reshape, "reshape", "view", torch.flatten, "flatten", nn.Flatten, "contiguous",
    torch.permute, "permute", torch.transpose, "transpose",
    torch.squeeze, "squeeze", torch.unsqueeze, "unsqueeze", "repeat",
)  # fmt: skip
_JOINS: tuple[Any, ...] = (torch.cat, torch.concat)
_SIZES = ("size", "dim", "numel")


def match_movement(view: ReferenceView, quantize: Node) -> Source | None:
    """The movement of numbers that stand for levels, done to the levels."""
    return _levels(view, quantize.all_input_nodes[0], view.grid(quantize))


def _levels(view: ReferenceView, node: Any, wanted: LevelGrid) -> Source | None:
    """What gives the levels of a node's numbers, if they all stand on grids."""
    if not isinstance(node, Node):
        return None
    if is_dequantize(node):
        return between_grids(levels_of(node), view.grid(node), wanted)
    operation = view.operation(node)
    is_join, is_item = operation in _JOINS, _is_item(view, node)
    if not (is_join or is_item or operation in (*_MOVEMENTS, *CUTS)) or not node.args:
        return None
    if any(isinstance(argument, torch.dtype) for argument in node.args):
        return None  # ``view(dtype)`` reads the bytes of a tensor, and levels have others.
    tensors = node.args[0] if is_join else node.args[:1]
    if not isinstance(tensors, tuple | list):
        return None
    found = {each: _levels(view, each, wanted) for each in tensors}
    sources = {each: levels for each, levels in found.items() if levels is not None}
    return Moved(node, sources) if len(sources) == len(found) else None


def _is_item(view: ReferenceView, node: Node) -> bool:
    """Whether `node` is one of the tensors that another was cut into."""
    cut = node.args[0] if node.args else None
    is_getitem = node.target is operator.getitem
    return is_getitem and isinstance(cut, Node) and view.operation(cut) in CUTS


def read_sizes_of_levels(reference: GraphModule) -> None:
    """Ask levels for their sizes, not the numbers that they stand for, in place."""
    for node in reference.graph.nodes:
        if not is_dequantize(node):
            continue
        for user in list(node.users):
            is_shape = user.target is getattr and user.args[1] in ("shape", "ndim")
            if is_shape or (user.op == "call_method" and user.target in _SIZES):
                user.replace_input_with(node, levels_of(node))
