"""Proxies that know what they stand for on the example, so that Python code can ask about sizes."""

import inspect
import operator
from collections.abc import Callable, Iterator
from dis import get_instructions
from math import ceil, floor, trunc
from types import FrameType
from typing import Any, TypeVar

import torch
from torch import Tensor, fx
from torch.fx import Node
from torch.fx.node import map_aggregate

from ..graph.questions import (
    ancestors,
    depends_on_contents,
    is_fixed_by_model,
    is_question,
    reads_inputs,
)
from .sizes.guards import EXAMPLE_SHAPE, cut_of, guard_size

UNKNOWN = object()
"""A value that could not be computed."""

_Answer = TypeVar("_Answer")

_PLAIN = (bool, int, float, str, torch.dtype, torch.device, torch.layout)


class AsksForSizesError(Exception):
    """Python code wants to know something, and no example is run along."""


class KnownProxy(fx.Proxy):
    """A proxy with its values on the example and on one with another batch size.

    Questions about parameters and the number of axes are answered from the example, once and for
    all. Where Python code needs a size as a number, or the truth of a comparison of sizes, the
    answer is fixed too, and the graph checks it at run time. A question about what a tensor holds,
    or whose answer changes with the size of the batch, stops tracing.
    """

    def __init__(self, node: Node, tracer: fx.Tracer) -> None:
        super().__init__(node, tracer)
        # Results have attributes of their own, such as the `values` of a maximum.
        self.on_examples: tuple[Any, ...] = ()

    def __getattr__(self, name: str) -> Any:
        """An attribute or a bound method of the value."""
        attribute = KnownAttribute(self, name)
        return attribute._same(attribute.on_examples) if attribute.is_rank("ndim") else attribute

    def __bool__(self) -> bool:
        """The answer to an ``if``."""
        return self._fixed(bool) if self._is_number() else super().__bool__()

    def __int__(self) -> int:
        """A size as a number."""
        return self._fixed(int)

    def __index__(self) -> int:
        """A size as a number."""
        return self._fixed(operator.index)

    def __float__(self) -> float:
        """A size as a number."""
        return self._fixed(float)

    def __ceil__(self) -> Any:
        """A step of the graph: what rounds a size need not make a number of it."""
        return self._step(ceil)

    def __floor__(self) -> Any:
        """A step of the graph."""
        return self._step(floor)

    def __trunc__(self) -> Any:
        """A step of the graph."""
        return self._step(trunc)

    def __round__(self, *digits: int) -> Any:
        """A number, since a proxy of torch, which may trace the graph again, cannot be rounded."""
        return self._fixed(lambda value: round(value, *digits))

    def __divmod__(self, divisor: Any) -> Any:
        """Two steps of the graph."""
        return self // divisor, self % divisor

    def __hash__(self) -> int:
        """A number as the key of a dictionary; anything else is a key by its identity."""
        if not self.on_examples:
            if any(map(is_question, ancestors(self.node, through_questions=False))):
                raise AsksForSizesError
            return object.__hash__(self)
        if isinstance(self.on_examples[0], Tensor) or not self._is_number():
            return object.__hash__(self)
        return self._fixed(hash)

    def __len__(self) -> int:
        """Of a list or of a tensor's shape; the length of a tensor itself is the batch."""
        if not self._is_list():
            length: int = super().__len__()
            return length
        self._guard_count()
        return self._count()

    def __iter__(self) -> Iterator[Any]:
        """The entries of a list or of a tensor's shape."""
        if not self._is_list():
            entries: Iterator[Any] = super().__iter__()
            return entries
        if not _is_unpacked(inspect.currentframe()):
            self._guard_count()
        proxy: Any = self
        return (proxy[index] for index in range(self._count()))

    def _step(self, function: Callable[..., Any]) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self,), {})

    def _is_list(self) -> bool:
        return isinstance(self._known(), tuple | list)

    def _known(self) -> Any:
        """The value on the example."""
        if not self.on_examples:
            raise AsksForSizesError
        return self.on_examples[0]

    def _is_number(self) -> bool:
        value = self._known()
        if isinstance(value, Tensor):
            return value.numel() == 1 and not reads_inputs(self.node)
        return isinstance(value, _PLAIN)

    def _fixed(self, read: Callable[[Any], _Answer]) -> _Answer:
        """What `read` makes of the number, from now on a fact that the graph checks."""
        if not self._is_number() or depends_on_contents(self.node):
            raise TypeError("a number that depends on the values of an input cannot be traced")
        values: tuple[Any, ...] = self.on_examples
        if all(value is not UNKNOWN for value in values):
            values = tuple(map(read, values))
        answer: _Answer = self._same(values)
        if isinstance(self.on_examples[0], int | float):
            self._guard(self.node, answer if read is bool else self.on_examples[0])
        return answer

    def _guard(self, number: Node, expected: Any) -> None:
        """Let the graph check a number, if it is one that the inputs decide."""
        sources = tuple(ancestors(number, through_questions=True))
        if not is_fixed_by_model(number) and any(node.op == "placeholder" for node in sources):
            # A tensor within a list has no placeholder of its own.
            tensors = [node for node in reversed(sources) if EXAMPLE_SHAPE in node.meta]
            placeholders = [node for node in tensors if node.op == "placeholder"]
            guard_size(number, expected, (*placeholders, *tensors)[0])

    def _count(self) -> int:
        lengths = tuple(UNKNOWN if value is UNKNOWN else len(value) for value in self.on_examples)
        count: int = self._same(lengths)
        return count

    def _guard_count(self) -> None:
        """Let the graph check a length that depends on the size of what was cut into parts."""
        cut = None if isinstance(self._known(), torch.Size) else cut_of(self.node, self._count())
        if cut is None:
            return
        create = self.tracer.create_node
        size = create("call_method", "size", (cut.tensor, cut.axis), {})
        if cut.is_in_halves:
            self._guard(create("call_function", operator.gt, (size, 1), {}), True)
        else:
            self._guard(size, cut.tensor.meta[EXAMPLE_SHAPE][cut.axis])

    def _same(self, answers: tuple[Any, ...]) -> Any:
        if any(answer is UNKNOWN or answer != answers[0] for answer in answers):
            raise TypeError("a number that depends on the batch size of an input cannot be traced")
        return answers[0]


class KnownAttribute(KnownProxy):
    """An attribute of a proxy, which becomes a node only when it is used other than by a call."""

    def __init__(self, root: KnownProxy, name: str) -> None:
        self.__dict__["root"] = root
        self.__dict__["attr"] = name
        self.tracer = root.tracer
        self._node: Node | None = None
        self.on_examples = tuple(
            UNKNOWN if value is UNKNOWN else getattr(value, name, UNKNOWN)
            for value in root.on_examples
        )

    @property
    def node(self) -> Node:  # type: ignore[override]
        """The node, made on first use."""
        if self._node is None:
            made = self.tracer.create_proxy("call_function", getattr, (self.root, self.attr), {})
            self._node = made.node
        return self._node

    def is_rank(self, *names: str) -> bool:
        """Whether it is one of `names`, which are about the number of axes, of a known tensor.

        That is a fact of the program, which Python code may well look up in a dictionary.
        """
        return self.attr in names and bool(self.on_examples) and UNKNOWN not in self.on_examples

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Record the call of a method."""
        if self.is_rank("dim", "ndimension"):
            return self._same(tuple(method() for method in self.on_examples))
        return self.tracer.create_proxy("call_method", self.attr, (self.root, *args), kwargs)


def values_of(argument: Any, index: int) -> Any:
    """An argument with its values on one of the examples, or `UNKNOWN`."""
    is_known = True

    def look_up(entry: Any) -> Any:
        nonlocal is_known
        value = entry.on_examples[index] if isinstance(entry, KnownProxy) else entry
        is_known = is_known and value is not UNKNOWN
        return value

    values = map_aggregate(argument, look_up)
    return values if is_known else UNKNOWN


def _is_unpacked(frame: FrameType | None) -> bool:
    """Whether ``a, b = ...`` asked for the iterator: Python itself then insists on the length."""
    caller = None if frame is None else frame.f_back
    if caller is None:
        return False
    instructions = get_instructions(caller.f_code)
    at = next((each for each in instructions if each.offset == caller.f_lasti), None)
    return at is not None and at.opname == "UNPACK_SEQUENCE"
