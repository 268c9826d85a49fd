"""What `torch.export` took for granted about the sizes of inputs, as checks in the graph."""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from traceback import FrameSummary
from types import MappingProxyType
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch.export import Dim
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.functions import FloorDiv, Max, Min, Mod, PythonMod

from ..errors import TraceError
from .example import Inputs
from .size_guards import guard_size

_aten = torch.ops.aten

_OPERATORS: Mapping[type, Callable[..., Any]] = MappingProxyType(
    {
        sympy.Add: operator.add,
        sympy.Mul: operator.mul,
        sympy.Eq: operator.eq,
        sympy.Ne: operator.ne,
        sympy.Gt: operator.gt,
        sympy.Ge: operator.ge,
        sympy.Lt: operator.lt,
        sympy.Le: operator.le,
        FloorDiv: operator.floordiv,
        Mod: operator.mod,
        PythonMod: operator.mod,
        Max: torch.sym_max,
        Min: torch.sym_min,
    }
)
"""Functions of sizes, with the function of two numbers that computes them."""

_AXIS_OF_CHANNELS: Mapping[Any, int] = MappingProxyType(
    {
        _aten.conv1d.default: -2,
        _aten.conv1d.padding: -2,
        _aten.conv2d.default: -3,
        _aten.conv2d.padding: -3,
        _aten.conv3d.default: -4,
        _aten.conv3d.padding: -4,
        _aten.linear.default: -1,
    }
)
"""Operators whose weights admit one size of an axis of their first operand."""

_Place = tuple[Node, int]


def sizes_to_try(inputs: Inputs) -> Iterator[tuple[Inputs, tuple[Any, ...] | None]]:
    """Inputs to export with, and the sizes to leave free, the most general first."""
    batch = inputs[0].shape[:1]
    is_batched = [entry.shape[:1] == batch and entry.dim() > 0 for entry in inputs]
    # Export takes a size of 1 for a constant.
    many = tuple(
        torch.cat([entry, entry]) if batched and batch[0] == 1 else entry
        for entry, batched in zip(inputs, is_batched, strict=True)
    )
    free = tuple(dict.fromkeys(range(entry.dim()), Dim.AUTO) for entry in inputs)
    free_batch = tuple(
        axes | {0: Dim.DYNAMIC} if batched else axes
        for axes, batched in zip(free, is_batched, strict=True)
    )
    yield many, free_batch
    yield inputs, free
    yield inputs, None


def guard_conditions(inputs: Mapping[Node, Node]) -> None:
    """Append a check of each condition on sizes under which an exported program holds.

    A program lists no such conditions: a size that decided a step is a number in the type of the
    placeholder, and other questions are in what `torch.export` notes about its symbols. Questions
    that only concern how memory is laid out have no influence on what the operators compute.

    Args:
        inputs: Placeholders of the exported program, each with that of the graph to append to.

    Raises:
        TraceError: A condition is no arithmetic on the sizes of inputs.
    """
    places: dict[sympy.Symbol, _Place] = {}
    fixed: list[tuple[sympy.Expr, _Place]] = []
    environments: dict[int, ShapeEnv] = {}
    for before, after in inputs.items():
        for axis, size in enumerate(before.meta["val"].shape):
            expression = sympy.Integer(size) if isinstance(size, int) else size.node.expr
            if not isinstance(size, int):
                environments[id(size.node.shape_env)] = size.node.shape_env
            if expression.is_Symbol and expression not in places:
                places[expression] = (after, axis)
            elif before.users and not _is_checked_by_layer(before, axis):
                fixed.append((expression, (after, axis)))
    for expression, place in fixed:
        _guard_axis(expression, place, places)
    for condition in _conditions(environments.values()):
        number = _node_of(condition, places)
        guard_size(number, True, _source(condition, places))


def _guard_axis(
    expression: sympy.Expr, place: _Place, places: Mapping[sympy.Symbol, _Place]
) -> None:
    source = place[0]
    size = source.graph.call_method("size", place)
    if expression.is_Integer:
        guard_size(size, int(expression), source)
    else:
        other = _node_of(expression, places)
        is_same = source.graph.call_function(operator.eq, (size, other))
        guard_size(is_same, True, source)


def _conditions(environments: Iterable[ShapeEnv]) -> Iterator[sympy.Basic]:
    known: dict[sympy.Basic, None] = {}
    for environment in environments:
        for guard in environment.guards:
            condition = environment.replace(guard.expr)
            if condition is not sympy.true and not _is_about_memory(guard.sloc.framework_loc):
                known[condition] = None
    yield from known


def _is_about_memory(asked_in: object) -> bool:
    """Whether a question was asked to find out if a tensor is contiguous, or how it is strided."""
    if not isinstance(asked_in, FrameSummary):
        return False
    words = ("contiguous", "stride", "dense")
    return "_prims_common" in asked_in.filename and any(word in asked_in.name for word in words)


def _is_checked_by_layer(placeholder: Node, axis: int) -> bool:
    """Whether a layer that reads the input takes no other size of the axis."""
    rank = placeholder.meta["val"].dim()
    return any(
        user.args[0] is placeholder and _AXIS_OF_CHANNELS.get(user.target) == axis - rank
        for user in placeholder.users
        if user.op == "call_function" and user.args
    )


def _source(condition: sympy.Basic, places: Mapping[sympy.Symbol, _Place]) -> Node:
    """The input whose size a message is about: the first in the order of inputs."""
    return next(node for symbol, (node, _) in places.items() if symbol in condition.free_symbols)


def _node_of(expression: sympy.Basic, places: Mapping[sympy.Symbol, _Place]) -> Any:
    """A number, or a node that computes it from sizes of inputs."""
    if isinstance(expression, sympy.Integer):
        return int(expression)
    if expression in places:
        source, axis = places[expression]
        return source.graph.call_method("size", (source, axis))
    function = _OPERATORS.get(expression.func)
    if function is None or not expression.args:
        raise TraceError(f"Cannot export the model: it asks whether {expression} of its sizes.")
    terms = expression.args
    if expression.func in (sympy.Add, sympy.Mul):  # sympy puts numbers first, people last
        terms = sorted(terms, key=lambda term: term.is_number)
    operands = [_node_of(term, places) for term in terms]
    graph = next(iter(places.values()))[0].graph
    return reduce(lambda left, right: graph.call_function(function, (left, right)), operands)
