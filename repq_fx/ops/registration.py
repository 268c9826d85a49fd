"""How an operator of torch comes from its reference kernel, which alone states its signature."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

Reference = TypeVar("Reference", bound=Callable[..., object])


def register_operator(*, mutates: Iterable[str] = ()) -> Callable[[Reference], Reference]:
    """A decorator that makes ``NAME_reference`` the operator ``torch.ops.repq_fx.NAME``.

    The annotations are its schema. The function runs where no compiled kernel was built, and is the
    fake kernel too: after its checks it allocates the results, and fills them if an argument
    `has_values`.

    Args:
        mutates: Names of the tensors that the operator changes.
    """

    def register(reference: Reference) -> Reference:
        name = "repq_fx::" + reference.__name__.removesuffix("_reference")
        schema = torch.library.infer_schema(reference, mutates_args=mutates)
        # Torch takes every `int` for a size, which may be symbolic. Only our lists hold sizes.
        torch.library.define(name, re.sub(r"\bSymInt\b(?!\[)", "int", schema))
        torch.library.impl(name, "CompositeExplicitAutograd", reference)
        torch.library.register_fake(name, reference)
        return reference

    return register


def has_values(tensor: Tensor) -> bool:
    """Whether `tensor` can be read: in tracing it has a dtype, a shape and a device only."""
    return not (isinstance(tensor, FakeTensor) or tensor.is_meta)
