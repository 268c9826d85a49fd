"""Transfer functions of padding, cropping and the order of axes."""

import operator
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..reparam import MapError, pad
from .affine_value import OPAQUE, AffineValue, Call, Source, View

Rule = Callable[[Call], AffineValue]
Sides = tuple[int, int]


def _pad_function(call: Call) -> AffineValue:
    bound = call.arguments("input", "pad", "mode", "value")
    if bound.get("mode", "constant") != "constant" or bound.get("value"):
        return OPAQUE
    return _padded(call, bound["input"], bound["pad"])


def _pad_module(call: Call) -> AffineValue:
    module = call.module
    if getattr(module, "value", 0) != 0:
        return OPAQUE
    return _padded(call, call.arguments("input")["input"], module.padding)


def _padded(call: Call, operand: Any, amounts: Sequence[int]) -> AffineValue:
    """Padding with zeros; `amounts` begins with the last axis, as for `torch.nn.functional.pad`."""
    shape = call.shape(operand)
    if shape is None or not all(isinstance(amount, int) for amount in amounts):
        return OPAQUE
    pairs = list(zip(amounts[0::2], amounts[1::2], strict=True))[::-1]
    sides = [(0, 0)] * (len(shape) - len(pairs)) + pairs

    def change(_: Source, view: View) -> View:
        if view.map.bias is not None and any(max(pair) > 0 for pair in sides):
            raise MapError("it pads with zeros after a bias, so the border would differ")
        return _moved_borders(view, sides)

    return call.value(operand).map(change)


def _crop(call: Call) -> AffineValue:
    """Indexing by slices that keep a contiguous part of the spatial axes."""
    operand, index = call.node.args
    shape = call.shape(operand)
    entries = index if isinstance(index, tuple) else (index,)
    if shape is None or not all(_is_static_slice(entry) for entry in entries):
        return OPAQUE
    if len(entries) > len(shape):
        return OPAQUE
    sides = [_cut(entry, size) for entry, size in zip(entries, shape, strict=False)]
    sides += [(0, 0)] * (len(shape) - len(entries))
    return call.value(operand).map(lambda _, view: _moved_borders(view, sides))


def _slice(call: Call) -> AffineValue:
    bound = call.arguments("input", "dim", "start", "end", "step")
    entry = slice(bound.get("start"), bound.get("end"), bound.get("step"))
    shape = call.shape(bound["input"])
    axis = bound.get("dim", 0)
    if shape is None or not _is_static_slice(entry):
        return OPAQUE
    sides = [(0, 0)] * len(shape)
    sides[axis] = _cut(entry, shape[axis])
    return call.value(bound["input"]).map(lambda _, view: _moved_borders(view, sides))


def _is_static_slice(entry: Any) -> bool:
    bounds = (entry.start, entry.stop) if isinstance(entry, slice) else ("",)
    return all(b is None or isinstance(b, int) for b in bounds) and entry.step in (None, 1)


def _cut(entry: slice, size: int) -> Sides:
    """How much of an axis a slice leaves out, as negative padding."""
    start, stop, _ = entry.indices(size)
    return -start, stop - size


def _moved_borders(view: View, sides: Sequence[Sides]) -> View:
    spatial = [pair for axis, pair in enumerate(sides) if axis not in (0, view.channel_axis)]
    if any(sides[0]) or any(sides[view.channel_axis]):
        raise MapError("it pads or cuts the batch or the channels")
    return view.then(lambda known: pad(known, tuple(spatial)))


def _permute_function(call: Call) -> AffineValue:
    bound = call.arguments("input", "dims")
    return _reordered(call, bound["input"], bound["dims"])


def _permute_method(call: Call) -> AffineValue:
    operand, *axes = call.node.args
    order: Any = axes[0] if len(axes) == 1 else axes
    return _reordered(call, operand, call.node.kwargs.get("dims", order))


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


LAYOUTS: tuple[Any, ...] = (
    torch.permute, torch.transpose, torch.swapaxes, torch.clone, "permute", "transpose",
    "swapaxes", "contiguous", "clone",
)  # fmt: skip
"""What only stores a value differently."""

MODULE_RULES: Mapping[type[nn.Module], Rule] = MappingProxyType(
    dict.fromkeys((nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d,
                   nn.ConstantPad3d), _pad_module)
)  # fmt: skip
FUNCTION_RULES: Mapping[Callable[..., Any], Rule] = MappingProxyType(
    {
        F.pad: _pad_function,
        operator.getitem: _crop,
        torch.ops.aten.slice.Tensor: _slice,
        torch.permute: _permute_function,
        torch.transpose: _transpose,
        torch.swapaxes: _transpose,
    }
)
METHOD_RULES: Mapping[str, Rule] = MappingProxyType(
    {"permute": _permute_method, "transpose": _transpose, "swapaxes": _transpose}
)
