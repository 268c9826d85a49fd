"""Which nodes of a graph overwrite a value."""

import operator
from collections.abc import Callable
from typing import Any

from torch import nn
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


def is_own(graph_module: GraphModule, node: Node) -> bool:
    """Whether a value is no view and has one reader, which then may overwrite it unseen."""
    if node.op != "call_module" or len(node.users) != 1:
        return False
    layer = graph_module.get_submodule(str(node.target))
    return isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)


def read_results_of_mutations(graph_module: GraphModule) -> None:
    """Let whatever reads an overwritten value later read the node that overwrote it, in place.

    Afterwards a step such as ``relu_`` whose result nobody took is a step like any other; without,
    `torch.fx` would take it for dead code.
    """
    nodes = list(graph_module.graph.nodes)
    position = {node: index for index, node in enumerate(nodes)}
    for node in nodes:
        operand = mutated_operand(graph_module, node)
        if operand is not None and node.target is not operator.setitem:  # It returns None.
            for user in list(operand.users):
                if position[user] > position[node]:
                    user.replace_input_with(operand, node)
    graph_module.recompile()


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
