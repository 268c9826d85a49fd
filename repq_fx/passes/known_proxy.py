"""Proxies that know what they stand for on the example, so that Python code can ask about sizes."""

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import Node
from torch.fx.node import map_aggregate

UNKNOWN = object()
"""The value of a proxy whose computation failed on the example."""

_PLAIN = (bool, int, float, torch.dtype, torch.device, torch.layout)


class KnownProxy(fx.Proxy):
    """A proxy with its value on the example.

    Questions about the number of axes, about sizes other than that of the batch, and about
    parameters are answered from the example, and the answer is fixed in the graph. A question about
    what a tensor holds, or about the size of the batch, stops tracing.
    """

    def __init__(self, node: Node, tracer: fx.Tracer, value: Any = UNKNOWN) -> None:
        super().__init__(node, tracer)
        self.value = value

    def __getattr__(self, name: str) -> Any:
        """An attribute or a bound method of the value."""
        return KnownAttribute(self, name)

    def __bool__(self) -> bool:
        """The answer to an ``if``."""
        if self._is_answerable():
            return bool(self.value)
        return super().__bool__()

    def __int__(self) -> int:
        """A size as a number."""
        return int(self._number())

    def __index__(self) -> int:
        """A size as a number."""
        return operator.index(self._number())

    def __float__(self) -> float:
        """A size as a number."""
        return float(self._number())

    def __len__(self) -> int:
        """Of a list or of a tensor's shape; the length of a tensor itself is the batch."""
        if isinstance(self.value, tuple | list):
            return len(self.value)
        length: int = super().__len__()
        return length

    def __iter__(self) -> Iterator[Any]:
        """The entries of a list or of a tensor's shape."""
        if isinstance(self.value, tuple | list):
            proxy: Any = self
            return (proxy[index] for index in range(len(self.value)))
        entries: Iterator[Any] = super().__iter__()
        return entries

    def _number(self) -> Any:
        if not self._is_answerable():
            raise TypeError("a number that depends on the values or the batch size of an input")
        return self.value

    def _is_answerable(self) -> bool:
        if isinstance(self.value, Tensor):
            return self.value.numel() == 1 and not _reads_inputs(self.node)
        return isinstance(self.value, _PLAIN) and not _counts_batch(self.node)


class KnownAttribute(KnownProxy):
    """An attribute of a proxy, which becomes a node only when it is used other than by a call."""

    def __init__(self, root: KnownProxy, name: str) -> None:
        self.__dict__["root"] = root
        self.__dict__["attr"] = name
        self.tracer = root.tracer
        self._node: Node | None = None
        self.value = UNKNOWN if root.value is UNKNOWN else getattr(root.value, name, UNKNOWN)

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


def value_of(argument: Any) -> Any:
    """An argument with values in the place of proxies, or `UNKNOWN`."""
    unknown = False

    def look_up(entry: Any) -> Any:
        nonlocal unknown
        value = entry.value if isinstance(entry, KnownProxy) else entry
        unknown = unknown or value is UNKNOWN
        return value

    values = map_aggregate(argument, look_up)
    return UNKNOWN if unknown else values


def _reads_inputs(node: Node) -> bool:
    """Whether a value depends on an input of the model."""
    return any(ancestor.op == "placeholder" for ancestor in _ancestors(node))


def _counts_batch(node: Node) -> bool:
    """Whether a number may depend on the size of the first axis of a tensor that is an input's."""
    return any(_may_count_batch(ancestor) for ancestor in _ancestors(node, through_tensors=False))


def _may_count_batch(node: Node) -> bool:
    arguments = node.args[1:]
    if node.target in ("numel", "nelement", "__len__", len):
        return True
    if node.target == "size" and arguments:
        return bool(arguments[0] == 0)
    if node.target is operator.getitem and _is_shape(node.args[0]):
        index = arguments[0]
        return bool(index == 0) or (isinstance(index, slice) and not index.start)
    return False


def _is_shape(node: Any) -> bool:
    if not isinstance(node, Node):
        return False
    return node.target == "size" or (node.target is getattr and "shape" in node.args)


def _ancestors(node: Node, *, through_tensors: bool = True) -> Iterator[Node]:
    pending, seen = [node], {node}
    while pending:
        current = pending.pop()
        yield current
        if not through_tensors and _is_shape(current):
            continue
        for operand in current.all_input_nodes:
            if operand not in seen:
                seen.add(operand)
                pending.append(operand)
