"""How an operator of torch comes from its reference kernel, which alone states its signature."""

import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

Function = TypeVar("Function", bound=Callable[..., Any])


def register_operator(reference: Function, *, mutates: Iterable[str] = ()) -> Function:
    """Make the function ``NAME_reference`` the operator ``torch.ops.repq_fx.NAME``.

    Its annotations are the schema. It runs where no compiled kernel was built, and is the fake
    kernel too: after its checks it allocates the results, and fills them if an argument
    `has_values`.

    Args:
        reference: In plain PyTorch, what every kernel computes.
        mutates: Names of the tensors that the operator changes.

    Returns:
        A function that calls the operator, with the signature and the docstring of the reference.
    """
    name = reference.__name__.removesuffix("_reference")
    schema = torch.library.infer_schema(reference, mutates_args=mutates)
    # Torch takes every `int` for a size, which may be symbolic. Only our lists hold sizes.
    torch.library.define(f"repq_fx::{name}", re.sub(r"\bSymInt\b(?!\[)", "int", schema))
    torch.library.impl(f"repq_fx::{name}", "CompositeExplicitAutograd", reference)
    torch.library.register_fake(f"repq_fx::{name}", reference)
    kernels = getattr(torch.ops.repq_fx, name)

    @wraps(reference)
    def operator(*args: Any, **kwargs: Any) -> Any:
        return kernels(*args, **kwargs)

    operator.__name__ = operator.__qualname__ = name
    return cast("Function", operator)


def has_values(tensor: Tensor) -> bool:
    """Whether `tensor` can be read: in tracing it has a dtype, a shape and a device only."""
    return not (isinstance(tensor, FakeTensor) or tensor.is_meta)
