"""The functions and methods that a saved graph may call, by name."""

import operator
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload
from torch.overrides import get_testing_overrides, resolve_name

from ..errors import FileFormatError

_OPERATORS = ("add", "iadd", "sub", "isub", "mul", "imul", "truediv", "floordiv", "neg", "getitem",
              "matmul", "pow", "mod", "eq", "ne", "lt", "le", "gt", "ge")  # fmt: skip
ATTRIBUTES = ("shape", "device", "dtype")
"""What a saved graph may read of a tensor."""
_OP_NAMESPACES = ("quantized_decomposed", "repq_fx")


@cache
def _functions() -> dict[str, Callable[..., Any]]:
    """Every function that takes tensors by torch's own account, and a few others."""
    functions: dict[str, Callable[..., Any]] = {
        f"operator.{name}": getattr(operator, name) for name in _OPERATORS
    }
    functions["torch.arange"] = torch.arange  # As position embeddings do; it takes no tensor.
    for function in get_testing_overrides():
        name = resolve_name(function)
        if name and not name.startswith("torch.Tensor."):
            functions[name] = function
    return functions


@cache
def _function_names() -> dict[Callable[..., Any], str]:
    return {function: name for name, function in _functions().items()}


def function_name(function: Any) -> str:
    """The name under which `function_from_name` finds `function` again.

    Raises:
        FileFormatError: It is not in the closed set.
    """
    if isinstance(function, OpOverload) and function.namespace in _OP_NAMESPACES:
        return str(function)
    name = _function_names().get(function)
    if name is None:
        raise FileFormatError(f"save: function {function!r} cannot be stored in a model file.")
    return name


def function_from_name(name: str) -> Callable[..., Any]:
    """Look up a function; never imports anything.

    Raises:
        ValueError: It is not in the closed set.
    """
    namespace, *path = name.split(".")
    if namespace in _OP_NAMESPACES and len(path) == 2:
        packet = getattr(getattr(torch.ops, namespace), path[0])
        overload = getattr(packet, path[1])
        if isinstance(overload, OpOverload):
            return overload
    elif name in _functions():
        return _functions()[name]
    raise ValueError(f"it calls {name!r}, which is not allowed in a model file.")


def check_method(name: str) -> None:
    """Refuse anything but a public tensor method.

    Raises:
        ValueError: `name` is not one.
    """
    if name.startswith("_") or not callable(getattr(torch.Tensor, name, None)):
        raise ValueError(f"it calls the method {name!r}, which is not allowed in a model file.")
