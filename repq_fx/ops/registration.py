"""Where the kernels of an operator come from: a reference, and a module if it was compiled."""

import re
from collections.abc import Callable, Iterable
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
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


def load_kernels(name: str) -> bool:
    """Import the module `name`, which registers the kernels in it; return whether it exists.

    Raises:
        ImportError: The module was built but cannot be loaded, typically because it was built
            against another version of torch. Falling back to the references would hide that.
    """
    if find_spec(name) is None:
        return False
    try:
        import_module(name)
    except ImportError as error:
        raise ImportError(
            f"the compiled kernels in {name} do not load with torch {torch.__version__}; "
            "rebuild them: pip install --no-build-isolation ."
        ) from error
    return True


_LOADED = load_kernels("repq_fx._C")


def has_extension() -> bool:
    """Whether the compiled kernels were built; without them ops run their slow references."""
    return _LOADED


def compiled_devices() -> tuple[str, ...]:
    """The devices that compiled kernels were built for: none, ``"cpu"``, or that and ``"cuda"``."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return tuple(key.lower() for key in ("CPU", "CUDA") if has_kernel("repq_fx::histogram", key))
