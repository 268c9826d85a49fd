"""Values in a graph that do not depend on its inputs."""

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node, map_arg

from .mutation import mutated_operand, operator_name

_MAKES = ("zeros", "ones", "full", "eye", "arange", "linspace", "scalar_tensor")
_DRAWS = ("bernoulli", "multinomial", "normal", "poisson", "rrelu", "gumbel_softmax")


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

    def reads(self, node: Node) -> list[Node]:
        """The ``get_attr`` nodes that a constant is computed from."""
        return [each for each in _with_ancestors(node) if each.op == "get_attr"]

    def _constant_nodes(self) -> frozenset[Node]:
        found: set[Node] = set()
        mutated = self._mutated_nodes()
        for node in self._graph_module.graph.nodes:
            is_call = node.op in ("call_function", "call_method")
            is_pure = is_call and found.issuperset(node.all_input_nodes) and not _draws(node)
            # Any other function without operands could be a counter or a clock.
            is_function = is_pure and (node.all_input_nodes or operator_name(node) in _MAKES)
            if (node.op == "get_attr" or is_function) and node not in mutated:
                found.add(node)
        return frozenset(found)

    def _mutated_nodes(self) -> set[Node]:
        """Nodes that overwrite a constant, and all that the constant may be a view of."""
        mutated: set[Node] = set()
        for node in self._graph_module.graph.nodes:
            operand = mutated_operand(self._graph_module, node)
            written = [] if operand is None else _with_ancestors(operand)
            if not any(each.op == "placeholder" for each in written):
                mutated.update((node, *written) if written else ())
        return mutated

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


def _draws(node: Node) -> bool:
    name = operator_name(node)
    return name in _DRAWS or name.startswith("rand") or "dropout" in name


def _with_ancestors(node: Node) -> list[Node]:
    found = {node: None}
    pending = [node]
    while pending:
        new = [operand for operand in pending.pop().all_input_nodes if operand not in found]
        found |= dict.fromkeys(new)
        pending += new
    return list(found)
