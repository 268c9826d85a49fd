"""What `torch.export` took for granted about the sizes of inputs, as checks in the graph."""

import math
import operator
from collections.abc import Callable, Collection, Mapping
from functools import reduce
from traceback import FrameSummary
from types import MappingProxyType
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch.fx import Node
from torch.utils._sympy.functions import (
    CeilToInt,
    FloatTrueDiv,
    FloorDiv,
    FloorToInt,
    IntTrueDiv,
    Max,
    Min,
    Mod,
    PythonMod,
    ToFloat,
    TruncToInt,
)

from ....errors import TraceError
from ...graph.example import Inputs
from .guards import guard_size

_aten = torch.ops.aten

_OPERATORS: Mapping[type, Callable[..., Any]] = MappingProxyType(
    {
        sympy.Add: operator.add,
        sympy.Mul: operator.mul,
        sympy.Pow: operator.pow,
        sympy.Eq: operator.eq,
        sympy.Ne: operator.ne,
        sympy.Gt: operator.gt,
        sympy.Ge: operator.ge,
        sympy.Lt: operator.lt,
        sympy.Le: operator.le,
        FloorDiv: operator.floordiv,
        Mod: operator.mod,
        PythonMod: operator.mod,
        IntTrueDiv: operator.truediv,
        FloatTrueDiv: operator.truediv,
        CeilToInt: math.ceil,
        FloorToInt: math.floor,
        TruncToInt: math.trunc,
        Max: torch.sym_max,
        Min: torch.sym_min,
    }
)
"""Functions of sizes, with the function of two numbers, or of one, that computes them."""

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


class InputSizes:
    """The sizes under which an exported program holds.

    A program lists no such conditions: a size that decided a step is a number in the type of the
    placeholder, and other questions are in what `torch.export` notes about its symbols. Questions
    about how memory is laid out have no influence on what operators compute, but once one is
    answered, export does not note that the model asks the same; they are doubtful, as is what it
    never asks: that a free size is more than 1.

    Args:
        inputs: Placeholders of the exported program, each with that of the graph to append checks
            to.

    Attributes:
        doubtful: Conditions that may or may not matter.
    """

    def __init__(self, inputs: Mapping[Node, Node]) -> None:
        self._inputs = inputs
        self._sizes = {node: tuple(map(_expression, node.meta["val"].shape)) for node in inputs}
        self._places: dict[sympy.Symbol, tuple[Node, int]] = {}
        for node, sizes in self._sizes.items():
            for axis, size in enumerate(sizes):
                if size.is_Symbol:
                    self._places.setdefault(size, (inputs[node], axis))
        asked, doubtful = self._conditions()
        self._asked = asked
        free = (each for sizes in self._sizes.values() for each in sizes if not each.is_Integer)
        more_than_one = (sympy.Gt(size, 1, evaluate=False) for size in free)
        self.doubtful = tuple(dict.fromkeys((*more_than_one, *doubtful)))

    def guard_conditions(self) -> None:
        """Append the checks of all that is not doubtful.

        Raises:
            TraceError: A condition is no arithmetic on the sizes of inputs.
        """
        for node, sizes in self._sizes.items():
            for axis, size in enumerate(sizes):
                place = self._inputs[node], axis
                is_free = self._places.get(size) == place
                if node.users and not is_free and not _is_checked_by_layer(node, axis):
                    self._guard_axis(size, place)
        for condition in self._asked:
            self.guard(condition)

    def guard(self, condition: sympy.Basic) -> None:
        """Insert the check of a condition where its graph inserts.

        Raises:
            TraceError: It is no arithmetic on the sizes of inputs.
        """
        number = self._node_of(condition)
        asked = (place[0] for symbol, place in self._places.items() if condition.has(symbol))
        guard_size(number, True, next(asked))

    def on(self, inputs: Inputs) -> dict[sympy.Symbol, int]:
        """What the free sizes are on `inputs`."""
        pairs = zip(self._sizes.values(), inputs, strict=True)
        found: dict[sympy.Symbol, int] = {}
        for sizes, entry in pairs:
            for size, number in zip(sizes, entry.shape, strict=True):
                if size.is_Symbol:
                    found.setdefault(size, number)
        return found

    def admit(self, values: Mapping[sympy.Symbol, int]) -> bool:
        """Whether nothing that is not doubtful forbids such sizes."""
        answers = [answer(condition, values) for condition in self._asked]
        return not {sympy.false, None}.intersection(answers)

    def tied_to(self, symbols: Collection[sympy.Symbol]) -> list[sympy.Symbol]:
        """The free sizes about which something was asked together with one of `symbols`."""
        together = [c.free_symbols for c in self._asked if not c.free_symbols.isdisjoint(symbols)]
        return [symbol for symbol in self._places if any(symbol in each for each in together)]

    def shapes(self, values: Mapping[sympy.Symbol, int]) -> tuple[tuple[int, ...], ...]:
        """The shapes of the inputs for such sizes."""
        return tuple(
            tuple(int(size.subs(values)) for size in sizes) for sizes in self._sizes.values()
        )

    def _conditions(self) -> tuple[list[sympy.Basic], list[sympy.Basic]]:
        """What was asked while exporting: what matters, and what may not."""
        sizes = (size for node in self._inputs for size in node.meta["val"].shape)
        environments = {
            id(size.node.shape_env): size.node.shape_env
            for size in sizes
            if isinstance(size, torch.SymInt) and size.node.shape_env is not None
        }
        asked: dict[sympy.Basic, None] = {}
        doubtful: dict[sympy.Basic, None] = {}
        for environment in environments.values():
            for guard in environment.guards:
                condition = environment.replace(guard.expr)
                if condition is not sympy.true:
                    is_doubtful = _is_doubtful(condition, guard.sloc.framework_loc)
                    (doubtful if is_doubtful else asked)[condition] = None
        return list(asked), [condition for condition in doubtful if condition not in asked]

    def _guard_axis(self, size: sympy.Expr, place: tuple[Node, int]) -> None:
        source = place[0]
        found = source.graph.call_method("size", place)
        if size.is_Integer:
            guard_size(found, int(size), source)
        else:
            call = found, self._node_of(size)
            guard_size(source.graph.call_function(operator.eq, call), True, source)

    def _node_of(self, expression: sympy.Basic) -> Any:
        """A number, or a node that computes it from sizes of inputs."""
        if isinstance(expression, sympy.Integer | sympy.Float):
            return int(expression) if expression.is_Integer else float(expression)
        if isinstance(expression, ToFloat):  # which arithmetic of Python does by itself
            return self._node_of(expression.args[0])
        graph = next(iter(self._inputs.values())).graph
        if expression in self._places:
            return graph.call_method("size", self._places[expression])
        function = _OPERATORS.get(expression.func)
        if function is None or not expression.args:
            raise TraceError(f"Cannot export the model: it asks for {expression} of its sizes.")
        terms = expression.args
        if expression.func in (sympy.Add, sympy.Mul):  # sympy puts numbers first, people last
            terms = sorted(terms, key=lambda term: term.is_number)
        operands = [self._node_of(term) for term in terms]
        if len(operands) == 1:
            return graph.call_function(function, tuple(operands))
        return reduce(lambda left, right: graph.call_function(function, (left, right)), operands)


def answer(condition: sympy.Basic, values: Mapping[sympy.Symbol, int]) -> sympy.Basic | None:
    """What a condition is for such sizes; None where it divides by one that is zero then."""
    try:
        return condition.subs(values)
    except ZeroDivisionError:
        return None


def _expression(size: int | torch.SymInt) -> sympy.Expr:
    return sympy.Integer(size) if isinstance(size, int) else size.node.expr


def _is_doubtful(condition: sympy.Basic, asked_in: object) -> bool:
    """Whether a question was asked to know how memory is laid out, or by an operator about 1."""
    if not isinstance(asked_in, FrameSummary):
        return False
    words = ("contiguous", "stride", "dense")
    if "_prims_common" in asked_in.filename and any(word in asked_in.name for word in words):
        return True
    # The last Python code before the code of an operator in C++.
    return asked_in.name == "_call_impl" and isinstance(condition, sympy.Ne) and 1 in condition.args


def _is_checked_by_layer(placeholder: Node, axis: int) -> bool:
    """Whether a layer that reads the input takes no other size of the axis."""
    rank = placeholder.meta["val"].dim()
    return any(
        user.args[0] is placeholder and _AXIS_OF_CHANNELS.get(user.target) == axis - rank
        for user in placeholder.users
        if user.op == "call_function" and user.args
    )
