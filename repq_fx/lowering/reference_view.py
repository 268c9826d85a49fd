"""Questions about the nodes of a reference graph; none changes anything."""

from typing import Any

import torch
from torch.fx import GraphModule, Node

from .grids import DEQUANTIZE, QUANTIZE
from .int8.instructions import LevelGrid


class ReferenceView:
    """A reference graph, read node by node."""

    def __init__(self, graph_module: GraphModule) -> None:
        self.graph_module = graph_module

    def operation(self, node: Node) -> Any:
        """The type of the module, the function or the name of the method that `node` calls."""
        return type(self.module(node)) if node.op == "call_module" else node.target

    def module(self, node: Node) -> Any:
        """The module that `node` calls."""
        return self.graph_module.get_submodule(str(node.target))

    def setting(self, node: Node, position: int, name: str, default: Any = None) -> Any:
        """An argument of a function, or the module's attribute of that name.

        `position` counts the arguments behind the tensor.
        """
        if node.op == "call_module":
            return getattr(self.module(node), name, default)
        if len(node.args) > position + 1:
            return node.args[position + 1]
        return node.kwargs.get(name, default)

    def grid(self, node: Node) -> LevelGrid:
        """The grid of a quantize or dequantize node."""
        _, *grid = node.args[:5]
        return LevelGrid(*grid)  # type: ignore[arg-type]


def name_of(node: Node) -> str:
    """What an instruction that replaces `node` is called."""
    return str(node.target) if node.op == "call_module" else node.name


def is_quantize(node: Any) -> bool:
    """Whether `node` rounds to levels."""
    return isinstance(node, Node) and node.target is QUANTIZE


def is_dequantize(node: Any) -> bool:
    """Whether `node` reads levels."""
    return isinstance(node, Node) and node.target is DEQUANTIZE


def is_read_once(node: Node) -> bool:
    """Whether a single node reads `node`."""
    return len(node.users) == 1


def levels_of(dequantize: Node) -> Node:
    """The levels that a dequantize node reads."""
    levels = dequantize.args[0]
    assert isinstance(levels, Node)
    return levels


def tensor_inputs(node: Node) -> list[Node] | None:
    """The positional tensor arguments, or None where tensors stand elsewhere too."""
    inputs = [argument for argument in node.args if isinstance(argument, Node)]
    return inputs if set(inputs) == set(node.all_input_nodes) else None


def pair(value: Any) -> tuple[int, int] | None:
    """Rows and columns of a setting that may be one number for both; None if it is neither."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, tuple | list | torch.Size) and len(value) == 2:
        rows, columns = value
        if isinstance(rows, int) and isinstance(columns, int):
            return rows, columns
    return None
