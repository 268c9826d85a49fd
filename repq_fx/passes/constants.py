"""Values in a graph that do not depend on its inputs."""

import operator
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node, map_arg

_MUTATES: frozenset[Callable[..., Any]] = frozenset(
    {operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem}
)
_MAKES = ("zeros", "ones", "full", "eye", "arange", "linspace", "scalar_tensor")
_DRAWS = ("rand", "dropout", "bernoulli", "multinomial", "normal", "poisson")


class Constants:
    """Evaluates subgraphs of parameters and buffers, each node once.

    A weight that a forward computes from parameters alone (a sum of branches, a mask, a
    standardisation) is the same on every call in evaluation mode.

    Args:
        graph_module: The graph; not changed.
    """

    def __init__(self, graph_module: GraphModule) -> None:
        self._graph_module = graph_module
        self._values: dict[Node, Any] = {}
        self._nodes = self._constant_nodes()

    def __contains__(self, node: object) -> bool:
        """Whether `node` is a constant."""
        return node in self._nodes

    def value(self, operand: Any) -> Tensor | None:
        """The tensor that an argument of a node stands for, or None if it is no constant tensor."""
        if not isinstance(operand, Node) or operand not in self._nodes:
            return None
        with torch.no_grad():
            value = self._evaluate(operand)
        return value if isinstance(value, Tensor) else None

    def reads(self, node: Node) -> Iterator[Node]:
        """The ``get_attr`` nodes that a constant is computed from."""
        if node.op == "get_attr":
            yield node
        for operand in node.all_input_nodes:
            yield from self.reads(operand)

    def _constant_nodes(self) -> frozenset[Node]:
        found: set[Node] = set()
        mutated = {n.args[0] for n in self._graph_module.graph.nodes if _mutates(n) and n.args}
        for node in self._graph_module.graph.nodes:
            is_computed = node.op in ("call_function", "call_method") and not _is_impure(node)
            is_pure = is_computed and found.issuperset(node.all_input_nodes)
            # Any other function without operands could be a counter or a clock.
            is_function = is_pure and (node.all_input_nodes or _name(node) in _MAKES)
            if (node.op == "get_attr" or is_function) and node not in mutated:
                found.add(node)
        return frozenset(found)

    def _evaluate(self, node: Node) -> Any:
        if node not in self._values:
            if node.op == "get_attr":
                self._values[node] = attrgetter(str(node.target))(self._graph_module)
            else:
                args, kwargs = map_arg((node.args, node.kwargs), self._evaluate)
                self._values[node] = _call(node, args, kwargs)
        return self._values[node]


def _call(node: Node, args: Any, kwargs: Any) -> Any:
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    function: Any = node.target
    return function(*args, **kwargs)


def _mutates(node: Node) -> bool:
    if node.op == "call_function":
        return node.target in _MUTATES or "out" in node.kwargs or _has_in_place_name(node)
    return node.op == "call_method" and _has_in_place_name(node)


def _is_impure(node: Node) -> bool:
    return _mutates(node) or any(word in _name(node) for word in _DRAWS)


def _has_in_place_name(node: Node) -> bool:
    name = _name(node)
    return name.endswith("_") and not name.endswith("__")


def _name(node: Node) -> str:
    if isinstance(node.target, str):
        return node.target
    name: str = getattr(node.target, "_opname", getattr(node.target, "__name__", ""))
    return name
