"""The functions and methods that a saved graph may call, by name.

All compute tensors or numbers from their arguments. Functions are torch's own by its account of
them; methods are those that torch's dispatcher has an operator for, and conversions. What reaches
a tensor's memory, its file, its hooks or its place in the autograd graph is not among them.
"""

import inspect
import math
import operator
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx.graph import inplace_methods, magic_methods
from torch.nn import functional
from torch.overrides import get_testing_overrides, resolve_name

from ..errors import FileFormatError

ATTRIBUTES = ("shape", "device", "dtype", "ndim", "T", "H", "mT", "mH", "real", "imag")
"""What a saved graph may read of a tensor."""
_OPERATORS = ({*magic_methods, *inplace_methods} & vars(operator).keys()) - {"setitem"}
_ARITHMETIC = ("ceil", "floor", "trunc", "sqrt", "log", "log2", "exp", "prod", "gcd")
_OP_NAMESPACES = ("quantized_decomposed", "repq_fx")
# Kernels of other back ends that trust their arguments.
_INTERNAL = ("fbgemm_", "quantized_", "miopen_", "fused_", "choose_qparams", "batch_norm_")
_CONVERSIONS = frozenset(
    ("bfloat16", "bool", "byte", "cdouble", "cfloat", "char", "double", "float", "half", "int",
     "long", "ndimension", "nelement", "new_tensor", "polygamma", "short", "tolist", "type",
     "unique", "where")
)  # fmt: skip
_NOT_OF_VALUES = frozenset(
    ("as_strided", "as_strided_", "as_strided_copy", "backward", "is_set_to", "pin_memory",
     "record_stream", "requires_grad_", "resize", "resize_", "resize_as", "resize_as_",
     "resize_as_sparse_", "retain_grad", "set_", "slice_inverse", "sparse_resize_",
     "sparse_resize_and_clear_")
)  # fmt: skip


@cache
def _functions() -> dict[str, Callable[..., Any]]:
    functions: dict[str, Callable[..., Any]] = {
        f"operator.{name}": getattr(operator, name) for name in _OPERATORS
    }
    functions |= {f"math.{name}": getattr(math, name) for name in _ARITHMETIC}
    functions["torch.arange"] = torch.arange  # As position embeddings do; it takes no tensor.
    for name, function in vars(functional).items():
        # Those that only call others are not in torch's account of what can be overridden.
        own = inspect.isfunction(function) and function.__module__ == functional.__name__
        if own and not name.startswith("_"):
            functions[f"{functional.__name__}.{name}"] = function
    for function in get_testing_overrides():
        qualified = resolve_name(function) or "torch.Tensor."
        if not qualified.startswith(("torch.Tensor.", "torch.nn.init.")):
            functions[qualified] = function
    return {name: function for name, function in functions.items() if _is_of_values(name)}


def _is_of_values(qualified: str) -> bool:
    name = qualified.rpartition(".")[2]
    return name not in _NOT_OF_VALUES and not name.startswith(_INTERNAL)


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
        packet = getattr(getattr(torch.ops, namespace), path[0], None)
        overload = getattr(packet, path[1], None)
        if isinstance(overload, OpOverload):
            return overload
    elif name in _functions():
        return _functions()[name]
    raise ValueError(f"it calls {name!r}, which is not allowed in a model file.")


def check_operands(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """torch.fx writes an operator as a formula, which has a place for each operand.

    Raises:
        ValueError: `function` is an operator of another number of operands.
    """
    if getattr(function, "__module__", "") == operator.add.__module__:
        wanted = len(inspect.signature(function).parameters)
        if kwargs or len(args) != wanted:
            name = getattr(function, "__name__", "")
            raise ValueError(f"operator {name!r} takes {wanted} operands, not {len(args)}.")


def check_method(name: str) -> None:
    """Refuse any method but those of tensors that compute values.

    Raises:
        ValueError: `name` is another.
    """
    if name in _CONVERSIONS or (
        not name.startswith("_")
        and callable(getattr(torch.Tensor, name, None))
        and hasattr(torch.ops.aten, name)
        and name not in _NOT_OF_VALUES
    ):
        return
    raise ValueError(f"it calls the method {name!r}, which is not allowed in a model file.")
