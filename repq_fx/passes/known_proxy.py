"""Proxies that know what they stand for on the example, so that Python code can ask about sizes."""

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import Node
from torch.fx.node import map_aggregate

UNKNOWN = object()
"""A value that could not be computed."""

_PLAIN = (bool, int, float, str, torch.dtype, torch.device, torch.layout)
_QUESTIONS = frozenset(
    {"shape", "ndim", "dtype", "device", "layout", "size", "dim", "ndimension", "is_floating_point",
     "is_cuda", "is_sparse", "is_quantized", "numel", "nelement", "stride", "requires_grad"}
)  # fmt: skip
"""Attributes and methods of tensors whose answer does not depend on what a tensor holds."""


class AsksForSizesError(Exception):
    """Python code wants to know something, and no example is run along."""


class KnownProxy(fx.Proxy):
    """A proxy with its values on the example and on one with another batch size.

    Questions about parameters, the number of axes and sizes are answered from the example, and the
    answer is fixed in the graph. A question about what a tensor holds, or whose answer changes with
    the size of the batch, stops tracing.
    """

    def __init__(self, node: Node, tracer: fx.Tracer) -> None:
        super().__init__(node, tracer)
        self.values: tuple[Any, ...] = ()

    def __getattr__(self, name: str) -> Any:
        """An attribute or a bound method of the value."""
        return KnownAttribute(self, name)

    def __bool__(self) -> bool:
        """The answer to an ``if``."""
        return bool(self._answer()) if self._is_number() else super().__bool__()

    def __int__(self) -> int:
        """A size as a number."""
        return int(self._answer())

    def __index__(self) -> int:
        """A size as a number."""
        return operator.index(self._answer())

    def __float__(self) -> float:
        """A size as a number."""
        return float(self._answer())

    def __len__(self) -> int:
        """Of a list or of a tensor's shape; the length of a tensor itself is the batch."""
        length: int = self._count() if self._is_list() else super().__len__()
        return length

    def __iter__(self) -> Iterator[Any]:
        """The entries of a list or of a tensor's shape."""
        if not self._is_list():
            entries: Iterator[Any] = super().__iter__()
            return entries
        proxy: Any = self
        return (proxy[index] for index in range(self._count()))

    def _is_list(self) -> bool:
        return isinstance(self._known(), tuple | list)

    def _known(self) -> Any:
        """The value on the example."""
        if not self.values:
            raise AsksForSizesError
        return self.values[0]

    def _is_number(self) -> bool:
        value = self._known()
        if isinstance(value, Tensor):
            return value.numel() == 1 and not _reads_inputs(self.node)
        return isinstance(value, _PLAIN)

    def _answer(self) -> Any:
        if not self._is_number() or _depends_on_contents(self.node):
            raise TypeError("a number that depends on the values of an input cannot be traced")
        return self._same(self.values)

    def _count(self) -> int:
        lengths = tuple(UNKNOWN if value is UNKNOWN else len(value) for value in self.values)
        count: int = self._same(lengths)
        return count

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
        self.values = tuple(
            UNKNOWN if value is UNKNOWN else getattr(value, name, UNKNOWN) for value in root.values
        )

    @property
    def node(self) -> Node:  # type: ignore[override]
        """The node, made on first use."""
        if self._node is None:
            made = self.tracer.create_proxy("call_function", getattr, (self.root, self.attr), {})
            self._node = made.node
        return self._node

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Record the call of a method."""
        return self.tracer.create_proxy("call_method", self.attr, (self.root, *args), kwargs)


def values_of(argument: Any, index: int) -> Any:
    """An argument with its values on one of the examples, or `UNKNOWN`."""
    is_known = True

    def look_up(entry: Any) -> Any:
        nonlocal is_known
        value = entry.values[index] if isinstance(entry, KnownProxy) else entry
        is_known = is_known and value is not UNKNOWN
        return value

    values = map_aggregate(argument, look_up)
    return values if is_known else UNKNOWN


def _reads_inputs(node: Node) -> bool:
    """Whether a value depends on an input of the model."""
    return any(each.op == "placeholder" for each in _ancestors(node, through_questions=True))


def _depends_on_contents(node: Node) -> bool:
    """Whether a number depends on more of an input than its sizes and its type."""
    return any(each.op == "placeholder" for each in _ancestors(node, through_questions=False))


def _ancestors(node: Node, *, through_questions: bool) -> Iterator[Node]:
    pending, seen = [node], {node}
    while pending:
        current = pending.pop()
        yield current
        if not through_questions and _is_question(current):
            continue
        new = [operand for operand in current.all_input_nodes if operand not in seen]
        seen.update(new)
        pending += new


def _is_question(node: Node) -> bool:
    name = node.args[1] if node.target is getattr else node.target
    name = getattr(name, "__name__", name)
    return node.op != "call_module" and name in _QUESTIONS
