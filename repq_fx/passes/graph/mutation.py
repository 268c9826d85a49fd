"""Nodes that overwrite a value, and others that share its memory."""

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverloadPacket
from torch.fx import GraphModule, Node

from ..._torch_ao import ObserverBase
from .questions import is_question

_IN_PLACE: frozenset[Callable[..., Any]] = frozenset(
    {operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem}
)
# What the schemas of torch do not say: they return their operand where nothing is to be done.
_SOMETIMES_ITSELF = frozenset(
    ("getitem", "getattr", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
     "feature_alpha_dropout", "type", "type_as", "float", "double", "half", "bfloat16")
)  # fmt: skip
_LAYERS = (nn.Identity, nn.modules.dropout._DropoutNd, nn.Flatten, nn.Unflatten, ObserverBase)


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


def overwritten_alias(graph_module: GraphModule) -> Node | None:
    """The first node that overwrites what another node, which is read later, shares memory with.

    In ``a, b = y.chunk(2); a.mul_(2); f(y)`` the graph does not show that ``f`` reads what ``mul_``
    wrote. Call `read_results_of_mutations` before: what reads the operand itself then reads the
    result.
    """
    nodes: list[Node] = list(graph_module.graph.nodes)
    position = {node: index for index, node in enumerate(nodes)}
    for node in nodes:
        operand = mutated_operand(graph_module, node)
        if operand is None:
            continue
        path = _path(graph_module, operand)
        readers = (user for alias in _aliases(graph_module, path, node) for user in alias.users)
        if any(position[each] > position[node] and _reads(each, path) for each in readers):
            return node
    return None


def _reads(node: Node, path: list[Node]) -> bool:
    return not is_question(node) and not any(_are_disjoint(node, each) for each in path)


def _aliases(graph_module: GraphModule, path: list[Node], writer: Node) -> Iterator[Node]:
    """What may share memory with the first of `path`, but for that and what `writer` returns."""
    pending, seen = [path[-1]], {path[-1], writer}
    while pending:
        current = pending.pop()
        if current is not path[0]:
            yield current
        for user in current.users:
            if user not in seen and _is_view(graph_module, user, current) and _reads(user, path):
                seen.add(user)
                pending.append(user)


def _path(graph_module: GraphModule, node: Node) -> list[Node]:
    """A value, what it is a view of, and so on."""
    path = [node]
    while path[-1].args and isinstance(path[-1].args[0], Node):
        if not _is_view(graph_module, path[-1], path[-1].args[0]):
            break
        path.append(path[-1].args[0])
    return path


def _is_view(graph_module: GraphModule, node: Node, source: Node) -> bool:
    """Whether the result of `node` may share memory with `source`, its first operand."""
    if not node.args or node.args[0] is not source or is_question(node):
        return False
    if node.op == "call_module":
        layer = graph_module.get_submodule(str(node.target))
        return isinstance(layer, _LAYERS) or mutated_operand(graph_module, node) is source
    if node.op not in ("call_function", "call_method"):
        return False
    name = operator_name(node)
    if name in _SOMETIMES_ITSELF or mutated_operand(graph_module, node) is source:
        return True
    packet = getattr(torch.ops.aten, name, None)
    return isinstance(packet, OpOverloadPacket) and any(
        result.alias_info is not None
        for overload in packet.overloads()
        for result in getattr(packet, overload)._schema.returns
        if not overload.endswith("out")
    )


def _are_disjoint(first: Node, second: Node) -> bool:
    """Whether two nodes take different parts of the same value."""
    if not first.target is second.target is operator.getitem or first.args[0] is not second.args[0]:
        return False
    indices = (_index(first.args[1]), _index(second.args[1]))
    return any(_excludes(one, other) for one, other in zip(*indices, strict=False))


def _index(index: Any) -> list[Any]:
    """The indices of the leading axes."""
    parts = list(index) if isinstance(index, tuple) else [index]
    known = [isinstance(part, int | slice) for part in parts]
    return parts[: known.index(False)] if False in known else parts


def _excludes(one: Any, other: Any) -> bool:
    if isinstance(one, int) and isinstance(other, int):
        return one != other and (one < 0) == (other < 0)
    if not isinstance(one, slice) or not isinstance(other, slice):
        return False
    return _ends_before(one, other) or _ends_before(other, one)


def _ends_before(one: slice, other: slice) -> bool:
    end, start = one.stop, other.start
    if isinstance(end, int) and isinstance(start, int):
        return end <= start and (end < 0) == (start < 0)
    return isinstance(end, Node) and end is start
