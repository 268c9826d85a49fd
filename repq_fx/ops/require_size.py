"""A check that a size which a graph took for fixed is the one it was traced with."""

from torch import Tensor
from torch.types import Number

from ..errors import SizeError
from .registration import register_operator


def require_size_reference(
    source: Tensor, found: Number, expected: Number, question: str, example: list[int]
) -> None:
    """Refuse a tensor of another size than the one that decided a step of the graph.

    Graphs call the operator; there is no compiled kernel.

    Args:
        source: The input that `found` was computed from the size of; only its shape is read.
        found: The number, or what is to be true or false.
        expected: What it was on the example. Of True or False only the truth of `found` counts.
        question: What was asked, for the message.
        example: The shape of `source` in the example, for the message.

    Raises:
        SizeError: They differ.
    """
    answer = bool(found) if isinstance(expected, bool) else found
    if answer != expected:
        raise SizeError(
            f"The graph holds for an input of {list(example)}, on which {question} is {expected}; "
            f"an input of {list(source.shape)} makes it {answer}. Trace the model on such an input."
        )


register_operator(require_size_reference)
