"""Nodes that check at run time what a size of the example decided, and which of them can go."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node
from torch.fx.node import has_side_effect
from torch.nn import functional as F

from .... import ops  # noqa: F401 (registers the operator below)
from ...graph.mutation import operator_name
from ...graph.questions import ancestors, is_question

_REQUIRE = torch.ops.repq_fx.require_size.default
# Or torch.fx would take a node that returns nothing for dead code.
has_side_effect(_REQUIRE)

EXAMPLE_SHAPE = "repq_fx_example_shape"
"""Where the meta of a node holds the shape of its tensor on the example."""

_SYMBOLS: Mapping[Callable[..., Any], str] = MappingProxyType(
    {
        operator.add: "+",
        operator.sub: "-",
        operator.mul: "*",
        operator.pow: "**",
        operator.truediv: "/",
        operator.floordiv: "//",
        operator.mod: "%",
        operator.eq: "==",
        operator.ne: "!=",
        operator.lt: "<",
        operator.le: "<=",
        operator.gt: ">",
        operator.ge: ">=",
    }
)
Layers = Mapping[Node, nn.Module]
_AXES_AFTER_CHANNELS: Mapping[Any, int] = {
    nn.Linear.forward: 0,
    nn.Conv1d.forward: 1,
    nn.Conv2d.forward: 2,
    nn.Conv3d.forward: 3,
    nn.ConvTranspose1d.forward: 1,
    nn.ConvTranspose2d.forward: 2,
    nn.ConvTranspose3d.forward: 3,
}
"""By their forward, so that a subclass with one of its own is none of them."""
_NORMS_OF_SECOND_AXIS = frozenset({nn.BatchNorm2d.forward, nn.GroupNorm.forward})
_ENTRYWISE = frozenset(
    (*(kind.forward for kind in (
        nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.SiLU, nn.Mish, nn.GELU,
        nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Dropout)),
     F.relu, F.relu6, F.leaky_relu, F.silu, F.mish, F.gelu, F.hardswish, F.hardsigmoid, F.dropout,
     "relu", "relu_", "sigmoid", "tanh", "contiguous")
)  # fmt: skip


def guard_size(number: Node, expected: float, source: Node) -> None:
    """Append a check that `number` is still `expected`, unless the graph has it already.

    Args:
        number: Computed from the size of an input.
        expected: What it is on the example; True and False stand for its truth.
        source: The tensor that the message names the size of.
    """
    question = _text(number)
    call = (source, number, expected, question, list(source.meta[EXAMPLE_SHAPE]))
    for node in number.graph.nodes:
        # The text tells two reads of one size, which are two nodes, to be the same question.
        if node.target == _REQUIRE and node.args[3] == question:
            known = node.args[2]
            if known == expected and isinstance(known, bool) == isinstance(expected, bool):
                return
    number.graph.call_function(_REQUIRE, call)


def is_size_guard(node: Node) -> bool:
    """Whether `node` is a check that `guard_size` made."""
    return node.target == _REQUIRE


def is_arithmetic(node: Node) -> bool:
    """Whether `node` computes or compares, as Python does numbers."""
    return node.target in _SYMBOLS


@dataclass(frozen=True)
class Cut:
    """How the size of an axis decides into how many parts a tensor is cut.

    Attributes:
        tensor: What is cut.
        axis: Along which axis.
        is_in_halves: Whether any size above 1 gives as many parts; else only that of the example is
            known to.
    """

    tensor: Node
    axis: int
    is_in_halves: bool


def cut_of(node: Node, count: int) -> Cut | None:
    """The cut that returns `count` parts, if `node` is one whose number of parts is not given."""
    name = operator_name(node)
    if name not in _CUT_ARGUMENTS or node.op not in ("call_function", "call_method"):
        return None
    arguments = dict(zip(_CUT_ARGUMENTS[name], node.args[1:], strict=False)) | node.kwargs
    parts, axis = arguments.get("parts", arguments.get("chunks")), arguments.get("dim", 0)
    # Of more than two chunks some may be missing at any size.
    is_full = name == "chunk" and bool(parts == count <= 2)
    if isinstance(parts, list | tuple) or not isinstance(axis, int) or (is_full and count == 1):
        return None
    return Cut(node.all_input_nodes[0], axis, is_full)


_CUT_ARGUMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"split": ("parts", "dim"), "chunk": ("parts", "dim"), "unbind": ("dim",)}
)
"""Functions that cut a tensor into parts, with their parameters after the tensor."""


def _text(value: Any) -> str:
    """An expression of sizes as a person would write it."""
    if not isinstance(value, Node):
        return repr(value)
    symbol = None if isinstance(value.target, str) else _SYMBOLS.get(value.target)
    if symbol is not None and len(value.args) == 2:
        return f"({_text(value.args[0])} {symbol} {_text(value.args[1])})"
    if value.target is operator.getitem:
        return f"{_text(value.args[0])}[{value.args[1]}]"
    if value.target is getattr:
        return f"{_text(value.args[0])}.{value.args[1]}"
    return _call_text(value)


def _call_text(call: Node) -> str:
    name = operator_name(call)
    if call.op == "call_method" and is_question(call):
        return f"{_text(call.args[0])}.{name}({', '.join(map(_text, call.args[1:]))})"
    if getattr(call.target, "__module__", None) in ("math", "builtins"):
        return f"{name}({', '.join(map(_text, call.args))})"
    return call.name


def drop_certain_guards(graph_module: GraphModule) -> None:
    """Erase the checks of sizes that the weights of a layer fix.

    A convolution, a linear layer and a norm return one number of channels and take one. Code that
    compares that with what it expects would cost a check in every block.
    """
    graph = graph_module.graph
    guards = [node for node in graph.nodes if is_size_guard(node)]
    if not guards:
        return
    # A layer whose result nobody reads may be erased, and then takes anything.
    live = set(ancestors(graph.output_node(), through_questions=True))
    calls = [node for node in live if node.op == "call_module"]
    layers = {node: graph_module.get_submodule(str(node.target)) for node in calls}
    numbers: set[Node] = set()
    for guard in guards:
        number = guard.args[1]
        if isinstance(number, Node) and _is_certain(number, layers):
            numbers.update(ancestors(number, through_questions=False))
            graph.erase_node(guard)
    for node in reversed(graph.nodes):
        if node in numbers and not node.users:
            graph.erase_node(node)
    if numbers:
        graph_module.recompile()


def _is_certain(value: Any, layers: Layers) -> bool:
    """Whether a number is computed from nothing but constants and sizes that weights fix."""
    if not isinstance(value, Node):
        return True
    read = _size_read(value)
    if read is not None:
        return _is_fixed(*read, layers)
    return is_arithmetic(value) and all(_is_certain(operand, layers) for operand in value.args)


def _size_read(number: Node) -> tuple[Node, int] | None:
    """The tensor and the axis that a number is the size of."""
    if len(number.args) != 2:
        return None
    tensor, axis = number.args
    if number.target is operator.getitem and isinstance(tensor, Node):
        is_shape = (tensor.target, tensor.args[1:]) in ((getattr, ("shape",)), ("size", ()))
        tensor = tensor.args[0] if is_shape and tensor.args else None
    elif (number.op, number.target) != ("call_method", "size"):
        return None
    if isinstance(tensor, Node) and isinstance(axis, int) and EXAMPLE_SHAPE in tensor.meta:
        return tensor, axis
    return None


def _is_fixed(tensor: Node, axis: int, layers: Layers) -> bool:
    rank = len(tensor.meta[EXAMPLE_SHAPE])
    axis %= rank
    readers = [user for user in tensor.users if user.args[:1] == (tensor,)]
    near = [layers[node] for node in (tensor, *readers) if node in layers]
    if any(axis in _fixed_axes(layer, rank) for layer in near):
        return True
    operand = tensor.args[0] if tensor.args else None
    step = _forward_of(layers[tensor]) if tensor in layers else tensor.target
    if step not in _ENTRYWISE or not isinstance(operand, Node):
        return False
    return EXAMPLE_SHAPE in operand.meta and _is_fixed(operand, axis, layers)


def _fixed_axes(layer: nn.Module, rank: int) -> range:
    """The axes of which a layer with weights takes, and returns, one size."""
    forward = _forward_of(layer)
    if forward in _AXES_AFTER_CHANNELS:
        axis = rank - 1 - _AXES_AFTER_CHANNELS[forward]
        return range(axis, axis + 1)
    if forward in _NORMS_OF_SECOND_AXIS and layer.state_dict():
        return range(1, 2)
    if forward is nn.LayerNorm.forward and isinstance(layer, nn.LayerNorm):
        return range(rank - len(layer.normalized_shape), rank)
    return range(0)


def _forward_of(layer: nn.Module) -> Any:
    """The function that a call runs, be it of the class or of the layer alone."""
    return getattr(layer.forward, "__func__", layer.forward)
