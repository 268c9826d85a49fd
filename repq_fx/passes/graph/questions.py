"""What a number in a graph depends on: the sizes of inputs, or also their contents."""

from collections.abc import Callable, Iterator
from typing import Any

from torch.fx import Node

_ABOUT_TYPE = frozenset(
    {"ndim", "dtype", "device", "layout", "dim", "ndimension", "is_floating_point", "is_complex",
     "is_cuda", "is_sparse", "is_quantized", "requires_grad"}
)  # fmt: skip
_QUESTIONS = _ABOUT_TYPE | {"shape", "size", "numel", "nelement", "stride"}
"""Attributes and methods of tensors whose answer does not depend on what a tensor holds."""


def reads_inputs(node: Node) -> bool:
    """Whether a value depends on an input of the model."""
    return any(each.op == "placeholder" for each in ancestors(node, through_questions=True))


def depends_on_contents(node: Node) -> bool:
    """Whether a number depends on more of an input than its sizes and its type."""
    return any(each.op == "placeholder" for each in ancestors(node, through_questions=False))


def ancestors(node: Node, *, through_questions: bool) -> Iterator[Node]:
    """A node and all that it is computed from.

    Args:
        node: Where to begin.
        through_questions: Whether to go on from a number to the tensor whose size it is.
    """
    return _walk(node, lambda each: not through_questions and is_question(each))


def _walk(node: Node, is_end: Callable[[Node], bool]) -> Iterator[Node]:
    """A node and all that it is computed from, without what lies behind an end."""
    pending, seen = [node], {node}
    while pending:
        current = pending.pop()
        yield current
        if not is_end(current):
            new = [operand for operand in current.all_input_nodes if operand not in seen]
            seen.update(new)
            pending += new


def is_question(node: Node) -> bool:
    """Whether a node asks for what does not depend on the contents of a tensor."""
    return node.op != "call_module" and _name_of(node) in _QUESTIONS


def is_fixed_by_model(number: Node) -> bool:
    """Whether a number depends on nothing but the types of what layers return.

    A layer takes one type of tensor and returns that of its weights.
    """
    return all(
        _name_of(node) in _ABOUT_TYPE and not _reaches_input(node)
        for node in ancestors(number, through_questions=False)
        if is_question(node)
    )


def _reaches_input(node: Node) -> bool:
    """Whether a value depends on an input other than through a layer."""
    before = _walk(node, lambda each: each.op == "call_module")
    return any(each.op == "placeholder" for each in before)


def _name_of(node: Node) -> Any:
    """Of the attribute, function or method that a node reads or calls."""
    name = node.args[1] if node.target is getattr else node.target
    return getattr(name, "__name__", name)
