"""Values in a graph that depend on no input, and the folding of layers that run on them alone."""

from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node, map_arg

from .mutation import is_own, mutated_operand, operator_name

_MAKES = ("zeros", "ones", "full", "eye", "arange", "linspace", "scalar_tensor")
_DRAWS = ("bernoulli", "multinomial", "normal", "poisson", "rrelu", "gumbel_softmax")
_CONVERTS = ("type_as", "to")
_QUESTIONS = ("dtype", "device", "layout", "ndim", "dim", "ndimension", "is_floating_point")
_NO_LIKES: Mapping[Node, Tensor] = MappingProxyType({})


class Constants:
    """Evaluates subgraphs of parameters and buffers, each node once.

    A weight that a forward computes from parameters alone (a sum of branches, a mask, a
    standardisation, a gate behind layers) is the same on every call in evaluation mode. What an
    input only is asked for its type, its device or its number of axes is no part of it, so a weight
    that is brought to the type of an input is a constant too.

    Args:
        graph_module: The graph; not changed.
        likes: Tensors of the type, device and shape of computed values, the contents of which do
            not matter. Without, questions about computed values have no answer.
    """

    def __init__(self, graph_module: GraphModule, likes: Mapping[Node, Tensor] = _NO_LIKES) -> None:
        self._graph_module = graph_module
        self._likes = likes
        self._values: dict[Node, Any] = {}
        self._nodes = self._constant_nodes()

    def __contains__(self, node: object) -> bool:
        """Whether `node` is a constant."""
        return node in self._nodes

    def value(self, operand: Any) -> Tensor | None:
        """The tensor that an argument of a node stands for, or None if it is no constant tensor."""
        if not isinstance(operand, Node) or operand not in self._nodes:
            return None
        value = self.known(operand)
        return value if isinstance(value, Tensor) else None

    def known(self, node: Node) -> Any:
        """What a constant is: a tensor, a size, a type."""
        with torch.no_grad():
            return self._evaluate(node)

    def like(self, node: object) -> Tensor | None:
        """A tensor of the type, device and shape of a value, constant or not, or None."""
        return self._likes.get(node) if isinstance(node, Node) else None

    def reads(self, node: Node) -> list[Node]:
        """The nodes of tensors and layers that a constant is computed from."""
        return [n for n in self._with_ancestors(node) if n.op in ("get_attr", "call_module")]

    def _constant_nodes(self) -> frozenset[Node]:
        found: set[Node] = set()
        mutated = self._mutated_nodes()
        for node in self._graph_module.graph.nodes:
            is_known = node.op == "get_attr" or self._is_pure(node)
            if is_known and node not in mutated and found.issuperset(self._operands(node)):
                found.add(node)
        return frozenset(found)

    def _is_pure(self, node: Node) -> bool:
        """Whether a node always computes the same from the same operands."""
        if node.op == "call_module":
            return bool(node.all_input_nodes) and _is_pure_layer(
                self._graph_module.get_submodule(str(node.target))
            )
        if node.op not in ("call_function", "call_method") or _draws(node):
            return False
        # Any other function without operands could be a counter or a clock.
        return bool(node.all_input_nodes) or operator_name(node) in _MAKES

    def _operands(self, node: Node) -> list[Node]:
        """The nodes whose contents decide what a node computes."""
        if _question(node) in _QUESTIONS and node.args[0] in self._likes:
            return []
        if node.op == "call_method" and node.target in _CONVERTS:
            operands = node.all_input_nodes
            return [n for n in operands if n is node.args[0] or n not in self._likes]
        return node.all_input_nodes

    def _mutated_nodes(self) -> set[Node]:
        """Nodes that overwrite a constant, and all that the constant may be a view of."""
        mutated: set[Node] = set()
        for node in self._graph_module.graph.nodes:
            operand = mutated_operand(self._graph_module, node)
            if operand is None or is_own(self._graph_module, operand):
                continue
            written = self._with_ancestors(operand)
            if not any(each.op == "placeholder" for each in written):
                mutated.update((node, *written))
        return mutated

    def _with_ancestors(self, node: Node) -> list[Node]:
        found = {node: None}
        pending = [node]
        while pending:
            new = [operand for operand in self._operands(pending.pop()) if operand not in found]
            found |= dict.fromkeys(new)
            pending += new
        return list(found)

    def _evaluate(self, node: Node) -> Any:
        if node not in self._nodes:
            return self._likes[node]
        if node not in self._values:
            if node.op == "get_attr":
                self._values[node] = attrgetter(str(node.target))(self._graph_module)
            else:
                args, kwargs = map_arg((node.args, node.kwargs), self._evaluate)
                self._values[node] = self._call(node, args, kwargs)
        return self._values[node]

    def _call(self, node: Node, args: Any, kwargs: Any) -> Any:
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        function: Any = node.target
        if node.op == "call_module":
            function = self._graph_module.get_submodule(str(node.target))
        return function(*args, **kwargs)


def _question(node: Node) -> Any:
    """The attribute or the method that a node asks its first operand for, or another name."""
    if not node.args or node.op not in ("call_function", "call_method"):
        return None
    return node.args[1] if node.target is getattr else operator_name(node)


def _is_pure_layer(module: nn.Module) -> bool:
    """Whether a module is a layer of torch in evaluation mode that no hook changes."""
    is_of_torch = (type(module).forward.__module__ or "").startswith("torch.nn.")
    has_hooks = module._forward_hooks or module._forward_pre_hooks
    return is_of_torch and not has_hooks and not any(m.training for m in module.modules())


def _draws(node: Node) -> bool:
    name = operator_name(node)
    return name in _DRAWS or name.startswith("rand") or "dropout" in name


def fold_constants(graph_module: GraphModule) -> None:
    """Let no layer run on constants, such as that of a learned gate, in place.

    What layers make of parameters becomes one parameter, in front of the first step that depends on
    an input, unless it is larger than all that it is made of. Layers that nothing calls any more
    stay in the module; `remove_unused` takes them.

    Args:
        graph_module: A graph in evaluation mode that the caller owns.
    """
    constants = Constants(graph_module)
    for node in list(graph_module.graph.nodes):
        is_read = any(user not in constants for user in node.users)
        if node.op == "get_attr" or node not in constants or not is_read:
            continue
        read = constants.reads(node)
        value = constants.value(node)
        if value is not None and any(each.op == "call_module" for each in read):
            tensors = {t for each in read for t in _tensors(graph_module, each)}
            if value.numel() <= sum(tensor.numel() for tensor in tensors):
                trained = any(tensor.requires_grad for tensor in tensors)
                _replace(graph_module, node, nn.Parameter(value.clone(), trained))
    graph_module.graph.lint()
    graph_module.recompile()


def _tensors(graph_module: GraphModule, node: Node) -> list[Tensor]:
    owner = attrgetter(str(node.target))(graph_module)
    return [owner] if isinstance(owner, Tensor) else [*owner.parameters(), *owner.buffers()]


def _replace(graph_module: GraphModule, node: Node, value: nn.Parameter) -> None:
    name = f"{node.name}_value"
    while hasattr(graph_module, name):
        name += "_"
    graph_module.register_parameter(name, value)
    with graph_module.graph.inserting_before(node):
        node.replace_all_uses_with(graph_module.graph.get_attr(name))
