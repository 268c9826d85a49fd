"""Which operators of torch's dispatcher a saved graph may call: a rule on name and schema.

A graph that `torch.export` made calls operators where one that was traced calls functions.
"""

import operator
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
from torch import Tag
from torch._ops import OpOverload
from torch.fx import Node

_TORCH, _OURS = ("aten", "prims"), ("quantized_decomposed", "repq_fx")
# To the dispatcher sizes, dtypes, layouts and memory formats are integers.
_KINDS = ("Tensor", "int", "number", "float", "bool", "str", "Device")
_CONSTANTS: Mapping[str, type] = MappingProxyType(
    {"ScalarType": torch.dtype, "Layout": torch.layout, "MemoryFormat": torch.memory_format}
)
# Forward operators that functions of other names end in.
_BEHIND_FUNCTIONS = frozenset(
    ("eye", "fill", "full", "im2col", "lift_fresh", "lift_fresh_copy", "linspace", "ones", "zeros",
     "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "_log_softmax", "_safe_softmax", "_softmax",
     "_to_copy", "_unsafe_view", "convert_element_type")
)  # fmt: skip
_RESAMPLING = ("upsample_", "_upsample_")
# Gradients trust what the forward pass handed them; strides and storage reach memory.
_UNCHECKED = ("backward", "storage", "strided")


def overload(name: str) -> OpOverload | None:
    """The operator called ``namespace.name.overload``, if torch's dispatcher has one."""
    namespace, *path = name.split(".")
    if namespace not in (*_TORCH, *_OURS) or len(path) != 2:
        return None
    found = getattr(getattr(getattr(torch.ops, namespace), path[0], None), path[1], None)
    return found if isinstance(found, OpOverload) else None


def computes_values(found: OpOverload, *, is_known: bool) -> bool:
    """Whether the operator maps tensors and numbers to others, and does nothing else.

    Args:
        found: Any operator.
        is_known: Whether a function or method of the same name may be called.
    """
    name = found.name().partition("::")[2].partition(".")[0]
    # What only TorchScript has, such as `aten::save`, the dispatcher does not know.
    if not torch._C._dispatch_has_kernel(found.name()) or not _has_plain_arguments(found):
        return False
    if found.namespace in _OURS:
        return not found._schema.is_mutable
    if found.namespace not in _TORCH or any(part in name for part in _UNCHECKED):
        return False
    return (
        # Of those that are not public many trust their arguments.
        (Tag.core in found.tags and not name.startswith("_"))
        or name in _BEHIND_FUNCTIONS
        or name.startswith(_RESAMPLING)
        or is_known
        or (name.startswith("__") and hasattr(operator, name))
    )


@cache
def _has_plain_arguments(found: OpOverload) -> bool:
    """Whether nothing but values goes in, and at most the first of them is written to."""
    arguments = found._schema.arguments
    written = [argument.name for argument in arguments if argument.is_write]
    return written in ([], [arguments[0].name] if arguments else []) and all(
        _kind(argument.type) in _KINDS for argument in arguments
    )


def check_constants(found: OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse a number for a dtype, layout or memory format: kernels take any, and crash on most.

    Raises:
        ValueError: There is one.
    """
    positional = [argument.name for argument in found._schema.arguments if not argument.kwarg_only]
    given = {**dict(zip(positional, args, strict=False)), **kwargs}
    for argument in found._schema.arguments:
        allowed = _CONSTANTS.get(_kind(argument.real_type))
        value = given.get(argument.name)
        if allowed is None or value is None or isinstance(value, allowed):
            continue
        if isinstance(value, Node) and value.target is getattr and value.args[1] == "dtype":
            continue
        raise ValueError(f"{found} is given {value!r} as its {argument.name!r}.")


def _kind(of_argument: Any) -> str:
    """What an argument is, or what a list of such, or what may be left out, holds."""
    while of_argument.kind() in ("OptionalType", "ListType"):
        of_argument = of_argument.getElementType()
    return str(of_argument)
