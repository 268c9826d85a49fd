"""Which nodes of a graph overwrite a value."""

import operator
from collections.abc import Callable
from typing import Any

from torch.fx import GraphModule, Node

_IN_PLACE: frozenset[Callable[..., Any]] = frozenset(
    {operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem}
)


def mutated_operand(graph_module: GraphModule, node: Node) -> Node | None:
    """The node whose value `node` overwrites, or None."""
    operand: Any = node.args[0] if node.args else None
    if "out" in node.kwargs:
        operand = node.kwargs["out"]
    elif node.op == "call_module":
        module = graph_module.get_submodule(str(node.target))
        if not getattr(module, "inplace", False):
            return None
    elif not (node.target in _IN_PLACE or node.kwargs.get("inplace") or _ends_in_underscore(node)):
        return None
    return operand if isinstance(operand, Node) else None


def operator_name(node: Node) -> str:
    """The name of the function or method that a node calls."""
    if isinstance(node.target, str):
        return node.target
    name: str = getattr(node.target, "_opname", getattr(node.target, "__name__", ""))
    return name


def _ends_in_underscore(node: Node) -> bool:
    name = operator_name(node)
    is_call = node.op in ("call_function", "call_method")
    return is_call and name.endswith("_") and not name.endswith("__")
