"""What a number in a graph depends on: the sizes of inputs, or also their contents."""

from collections.abc import Iterator

from torch.fx import Node

_QUESTIONS = frozenset(
    {"shape", "ndim", "dtype", "device", "layout", "size", "dim", "ndimension", "is_floating_point",
     "is_cuda", "is_sparse", "is_quantized", "numel", "nelement", "stride", "requires_grad"}
)  # fmt: skip
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
    pending, seen = [node], {node}
    while pending:
        current = pending.pop()
        yield current
        if not through_questions and is_question(current):
            continue
        new = [operand for operand in current.all_input_nodes if operand not in seen]
        seen.update(new)
        pending += new


def is_question(node: Node) -> bool:
    """Whether a node asks for what does not depend on the contents of a tensor."""
    name = node.args[1] if node.target is getattr else node.target
    name = getattr(name, "__name__", name)
    return node.op != "call_module" and name in _QUESTIONS
