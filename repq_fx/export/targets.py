"""The functions and methods that a saved graph may call, by name.

All compute tensors or numbers from their arguments. Functions are torch's own by its account of
them, and those of Python on numbers; methods are those that torch's dispatcher has an operator for,
and conversions. What reaches a tensor's memory, its file, its hooks or its place in the autograd
graph is not among them, nor is what takes a function.
"""

import builtins
import inspect
import math
import operator
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx.graph import inplace_methods, magic_methods
from torch.nn import functional
from torch.overrides import get_testing_overrides, resolve_name

from ..errors import FileFormatError
from . import operators


def _result_fields() -> Iterator[str]:
    """Names of what functions such as `torch.max` return several of."""
    for kind in vars(torch.return_types).values():
        if isinstance(kind, type) and issubclass(kind, tuple):
            yield from (key for key, value in vars(kind).items() if inspect.isdatadescriptor(value))


ATTRIBUTES = frozenset(
    ("shape", "device", "dtype", "layout", "ndim", "itemsize", "is_cuda", "requires_grad",
     "T", "H", "mT", "mH", "real", "imag", *_result_fields())
)  # fmt: skip
"""What a saved graph may read of a tensor, or of several that a function returned."""
_OPERATORS = ({*magic_methods, *inplace_methods, "abs"} & vars(operator).keys()) - {"setitem"}
_BUILTINS = ("abs", "bool", "float", "int", "len", "list", "max", "min", "round", "slice", "sum",
             "tuple")  # fmt: skip
_ENDLESS = frozenset(("comb", "factorial", "perm"))  # Of a large number.
# They take no tensor, so that torch does not count them among those that can be overridden.
_FACTORIES = ("arange", "empty", "eye", "full", "linspace", "ones", "scalar_tensor", "tensor",
              "zeros")  # fmt: skip
# As `torch.nn.functional` names them too; torch does not count them either.
_IN_PLACE = ("celu_", "relu_", "selu_", "threshold_")
# Kernels of other back ends that trust their arguments.
_INTERNAL = ("fbgemm_", "quantized_", "miopen_", "fused_", "choose_qparams", "batch_norm_")
_CONVERSIONS = frozenset(
    ("bfloat16", "bool", "byte", "cdouble", "cfloat", "char", "double", "float", "half", "int",
     "long", "ndimension", "nelement", "new_tensor", "polygamma", "short", "tolist", "type",
     "unique", "where")
)  # fmt: skip
_NOT_OF_VALUES = frozenset(
    ("as_strided", "as_strided_", "as_strided_copy", "as_strided_scatter", "backward", "is_set_to",
     "pin_memory", "record_stream", "requires_grad_", "resize", "resize_", "resize_as",
     "resize_as_", "resize_as_sparse_", "retain_grad", "set_", "slice_inverse", "sparse_resize_",
     "sparse_resize_and_clear_", "triplet_margin_with_distance_loss")
)  # fmt: skip


@cache
def all_functions() -> Mapping[str, Callable[..., Any]]:
    """The functions that may be called, by name, but for operators of torch's dispatcher."""
    functions: dict[str, Callable[..., Any]] = {
        f"operator.{name}": getattr(operator, name) for name in _OPERATORS
    }
    functions |= {f"builtins.{name}": getattr(builtins, name) for name in _BUILTINS}
    functions |= {f"torch.{name}": getattr(torch, name) for name in (*_FACTORIES, *_IN_PLACE)}
    functions |= {
        f"math.{name}": function
        for name, function in vars(math).items()
        if callable(function) and not name.startswith("_") and name not in _ENDLESS
    }
    functions |= {"torch.Size": torch.Size, "collections.OrderedDict": OrderedDict}
    for name, function in vars(functional).items():
        # Those that only call others are not in torch's account of what can be overridden.
        own = inspect.isfunction(function) and function.__module__ == functional.__name__
        if own and not name.startswith("_"):
            functions[f"{functional.__name__}.{name}"] = function
    for function in get_testing_overrides():
        qualified = resolve_name(function) or "torch.Tensor."
        if not qualified.startswith(("torch.Tensor.", "torch.nn.init.")):
            functions[qualified] = function
    for home in (torch, functional):  # What works in place is not in that account.
        for name, function in vars(home).items():
            if name.endswith("_") and f"{home.__name__}.{name.removesuffix('_')}" in functions:
                functions[f"{home.__name__}.{name}"] = function
    return {name: function for name, function in functions.items() if _is_of_values(name)}


@cache
def _operator_names() -> frozenset[str]:
    """The functions of torch, as its dispatcher names what they call: ``linalg_inv``."""
    prefixes = (f"{functional.__name__}.", "torch.functional.", "torch.")
    names = set()
    for name in all_functions():
        prefix = next((each for each in prefixes if name.startswith(each)), None)
        if prefix is not None:
            names.add(name.removeprefix(prefix).replace(".", "_"))
    return frozenset(names)


def _is_of_values(qualified: str) -> bool:
    name = qualified.rpartition(".")[2]
    return name not in _NOT_OF_VALUES and not name.startswith(_INTERNAL)


@cache
def _function_names() -> dict[Callable[..., Any], str]:
    return {function: name for name, function in all_functions().items()}


def is_function(value: Any) -> bool:
    """Whether a file may hold `value` as one of the functions that it may call."""
    return callable(value) and isinstance(value, Hashable) and value in _function_names()


def function_name(function: Any) -> str:
    """The name under which `function_from_name` finds `function` again.

    Raises:
        FileFormatError: It is not in the closed set.
    """
    if isinstance(function, OpOverload):
        name = str(function) if _is_allowed(function) else None
    else:
        name = _function_names().get(function)
    if name is None:
        raise FileFormatError(f"save: function {function!r} cannot be stored in a model file.")
    return name


def function_from_name(name: str) -> Callable[..., Any]:
    """Look up a function; never imports anything.

    Raises:
        ValueError: It is not in the closed set.
    """
    if name in all_functions():
        return all_functions()[name]
    overload = operators.overload(name)
    if overload is not None and _is_allowed(overload):
        return overload
    raise ValueError(f"it calls {name!r}, which is not allowed in a model file.")


def _is_allowed(overload: OpOverload) -> bool:
    name = overload.name().partition("::")[2].partition(".")[0]
    # In place there is not always a function, as of `silu_`, nor out of place, as of `fill`.
    forms = (name, name.removesuffix("_"), f"{name}_")
    is_known = not _operator_names().isdisjoint(forms) or _is_method(name) or _is_method(forms[-1])
    return _is_of_values(name) and operators.computes_values(overload, is_known=is_known)


def check_operands(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Check what neither Python nor torch checks before something goes wrong.

    torch.fx writes an operator of Python as a formula, which has a place for each operand.

    Raises:
        ValueError: `function` is an operator of another number of operands, or one of torch that is
            given a number in place of one of torch's constants.
    """
    if isinstance(function, OpOverload):
        operators.check_constants(function, args, kwargs)
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
    if name not in _CONVERSIONS and not _is_method(name):
        raise ValueError(f"it calls the method {name!r}, which is not allowed in a model file.")


def _is_method(name: str) -> bool:
    """Whether tensors have a method of this name that computes values."""
    return (
        not name.startswith("_")
        and callable(getattr(torch.Tensor, name, None))
        and hasattr(torch.ops.aten, name)
        and name not in _NOT_OF_VALUES
    )
