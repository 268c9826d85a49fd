"""Transfer functions of padding, cropping and writing borders."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ...reparam import MapError, pad, select
from .value import OPAQUE, AffineValue, Call, Frame, Rule, Source, View

Sides = tuple[int, int]

_END = 2**63 - 1  # what torch.export writes for an open end


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

    strips = _strips(call, sides)

    def change(_: Source, view: View) -> View:
        if view.map.bias is not None and strips:
            raise MapError("it pads with zeros after a bias, so the border would differ")
        return _moved_borders(view, sides)

    framed = call.value(operand).map(lambda _, view: _moved_borders(view, sides)).views
    frames = {source: Frame(view, strips) for source, view in framed.items()}
    return replace(call.value(operand).map(change), frames=frames)


def _strips(call: Call, sides: Sequence[Sides]) -> frozenset[tuple[int, int, int]]:
    """The (axis, first index, end) of what padding adds to a value."""
    sizes = call.shapes[call.node]
    befores = {(axis, 0, before) for axis, (before, _) in enumerate(sides) if before > 0}
    afters = {
        (axis, sizes[axis] - after, sizes[axis])
        for axis, (_, after) in enumerate(sides)
        if after > 0
    }
    return frozenset(befores | afters)


def _write(call: Call) -> AffineValue:
    """Writing a constant into one strip of a frame.

    Whether it is the value at zero is not asked here: were it not, the border of the result would
    differ on every input, and so on the example.
    """
    bound = call.arguments("input", "src", "dim", "start", "end", "step")
    value, shape = call.value(bound["input"]), call.shape(bound["input"])
    is_constant = (
        call.constant(bound["src"]) is not None or call.value(bound["src"]).fill is not None
    )
    entry = slice(bound.get("start"), bound.get("end"), bound.get("step"))
    if shape is None or not is_constant or not _is_static_slice(entry):
        return OPAQUE
    axis = bound.get("dim", 0) % len(shape)
    start, end, _ = entry.indices(shape[axis])
    frames = {
        source: replace(frame, sides=frame.sides - {(axis, start, end)})
        for source, frame in value.frames.items()
        if (axis, start, end) in frame.sides
    }
    finished = {source: frame.view for source, frame in frames.items() if not frame.sides}
    return AffineValue(finished, {}, frames)


def _repeated(call: Call) -> AffineValue:
    return AffineValue(fill=call.constant(call.node.args[0]))


def _crop(call: Call) -> AffineValue:
    """Indexing by slices that cut borders or channels off."""
    operand, index = call.node.args
    entries = index if isinstance(index, tuple) else (index,)
    return _sliced(call, operand, dict(enumerate(entries)))


def _slice(call: Call) -> AffineValue:
    bound = call.arguments("input", "dim", "start", "end", "step")
    entry = slice(bound.get("start"), bound.get("end"), bound.get("step"))
    return _sliced(call, bound["input"], {bound.get("dim", 0): entry})


def _sliced(call: Call, operand: Any, entries: Mapping[int, Any]) -> AffineValue:
    """What the slices of some axes leave of a value."""
    shape = call.shape(operand)
    if shape is None or not all(_is_static_slice(entry) for entry in entries.values()):
        return OPAQUE
    if not all(-len(shape) <= axis < len(shape) for axis in entries):
        return OPAQUE
    cuts = {axis % len(shape): entry for axis, entry in entries.items()}
    sides = [_cut(cuts.get(axis, slice(None)), size) for axis, size in enumerate(shape)]
    # An image has other sizes elsewhere, of which a slice must leave out as much.
    fixed = {axis for axis, entry in cuts.items() if not _is_border_cut(entry)}
    views = call.value(operand).views
    kept = {source: view for source, view in views.items() if fixed <= {view.channel_axis}}
    known = replace(call.value(operand), views=kept)
    return known.map(lambda _, view: _moved_borders(view, sides))


def _is_static_slice(entry: Any) -> bool:
    """Whether a slice has known bounds and leaves nothing out in between."""
    bounds = (entry.start, entry.stop) if isinstance(entry, slice) else ("",)
    return all(b is None or isinstance(b, int) for b in bounds) and entry.step in (None, 1)


def _is_border_cut(entry: slice) -> bool:
    """Whether a slice of known bounds leaves out as much of an image of any other size."""
    from_start = entry.start is None or entry.start >= 0
    return from_start and (entry.stop is None or entry.stop < 0 or entry.stop == _END)


def _cut(entry: slice, size: int) -> Sides:
    """How much of an axis a slice leaves out, as negative padding."""
    start, stop, _ = entry.indices(size)
    return -start, stop - size


def _moved_borders(view: View, sides: Sequence[Sides]) -> View:
    axis, channels = view.channel_axis, view.map.out_channels
    before, after = sides[axis]
    if any(sides[0]) or max(before, after) > 0:
        raise MapError("it pads or cuts the batch or pads the channels")
    if channels + before + after < 1:
        raise MapError("it leaves no channel")
    spatial = tuple(pair for index, pair in enumerate(sides) if index not in (0, axis))
    moved = view.then(lambda known: pad(known, spatial))
    if before == after == 0:
        return moved
    return moved.then(lambda known: select(known, -before, channels + after))


_PADS = (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d,
         nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)  # fmt: skip

MODULE_RULES: Mapping[type[nn.Module], Rule] = MappingProxyType(dict.fromkeys(_PADS, _pad_module))
FUNCTION_RULES: Mapping[Callable[..., Any], Rule] = MappingProxyType(
    {
        F.pad: _pad_function,
        operator.getitem: _crop,
        torch.ops.aten.slice.Tensor: _slice,
        torch.ops.aten.slice_scatter.default: _write,
        torch.ops.aten.expand.default: _repeated,
    }
)
BORDERS: frozenset[Any] = frozenset({*MODULE_RULES, *FUNCTION_RULES})
"""What only pads or crops."""

METHOD_RULES: Mapping[str, Rule] = MappingProxyType({"expand": _repeated})
