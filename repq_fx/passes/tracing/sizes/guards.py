"""Nodes that check at run time what Python code once decided by a size of the example."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch.fx import Node
from torch.fx.node import has_side_effect

from .... import ops  # noqa: F401 (registers the operator below)
from ...graph.mutation import operator_name
from ...graph.questions import is_question

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
