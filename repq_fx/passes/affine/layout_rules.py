"""Transfer functions of the order and number of axes."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from ...reparam import MapError, with_axes
from .value import OPAQUE, AffineValue, Call, Rule, Source, View


def _permute_function(call: Call) -> AffineValue:
    bound = call.arguments("input", "dims")
    return _reordered(call, bound["input"], bound["dims"])


def _permute_method(call: Call) -> AffineValue:
    operand, *axes = call.node.args
    order: Any = axes[0] if len(axes) == 1 else axes
    dims: Any = call.node.kwargs.get("dims", order)
    return _reordered(call, operand, dims)


def _transpose(call: Call) -> AffineValue:
    bound = call.arguments("input", "dim0", "dim1")
    shape = call.shape(bound["input"])
    if shape is None:
        return OPAQUE
    order = list(range(len(shape)))
    first, second = bound["dim0"], bound["dim1"]
    order[first], order[second] = order[second], order[first]
    return _reordered(call, bound["input"], order)


def _reordered(call: Call, operand: Any, order: Sequence[int]) -> AffineValue:
    shape = call.shape(operand)
    if shape is None:
        return OPAQUE
    axes = [axis % len(shape) for axis in order]

    def change(_: Source, view: View) -> View:
        others = [axis for axis in axes if axis != view.channel_axis]
        if others != sorted(others) or axes[0] != 0:
            raise MapError("it changes the order of the spatial axes")
        return View(view.map, axes.index(view.channel_axis))

    return call.value(operand).map(change)


def _regrouped(call: Call) -> AffineValue:
    """Reshaping that keeps the last axis: each row of a linear layer's output stays a row."""
    shape, result = (call.shape(entry) for entry in (call.node.args[0], call.node))
    if shape is None or result is None or shape[-1] != result[-1]:
        return OPAQUE

    def change(_: Source, view: View) -> View:
        if view.channel_axis != len(shape) - 1 or not view.map.is_pointwise:
            raise MapError("it reshapes what is no row of channels")
        return View(with_axes(view.map, len(result) - 2), len(result) - 1)

    return call.value(call.node.args[0]).map(change)


LAYOUTS: tuple[Any, ...] = (
    torch.permute, torch.transpose, torch.swapaxes, torch.clone, "permute", "transpose",
    "swapaxes", "contiguous", "clone",
)  # fmt: skip
"""What only stores a value differently."""

FUNCTION_RULES: Mapping[Callable[..., Any], Rule] = MappingProxyType(
    {
        torch.flatten: _regrouped,
        torch.permute: _permute_function,
        torch.transpose: _transpose,
        torch.swapaxes: _transpose,
    }
)
METHOD_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "flatten": _regrouped,
        "reshape_as": _regrouped,
        "view_as": _regrouped,
        "permute": _permute_method,
        "transpose": _transpose,
        "swapaxes": _transpose,
    }
)
