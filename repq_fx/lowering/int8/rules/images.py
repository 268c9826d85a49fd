"""Operations on whole images: pools, and what only moves, selects or repeats values."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import Node

from ...reference_view import ReferenceView, is_dequantize, levels_of, name_of, pair
from ..instructions import (
    ChannelChunk,
    ChannelSlice,
    Concatenate,
    Flatten,
    Instruction,
    LevelGrid,
    PixelShuffle,
    UpsampleNearest,
)
from ..rule import Match
from .pads import PADS, match_pad
from .pointwise import between_grids
from .pools import AVERAGES, WINDOW_AVERAGES, match_average, max_pool_of
from .sizes import is_batch, size_of
from .slices import slices_of

Mover = Callable[[ReferenceView, Node], Instruction | None]


def match_image_operation(view: ReferenceView, quantize: Node) -> Match | Node | None:
    """A pool or movement of levels; where nothing moves, the node of the levels themselves."""
    value, wanted = quantize.all_input_nodes[0], view.grid(quantize)
    if is_dequantize(value):
        return between_grids(levels_of(value), view.grid(value), wanted)
    operation = view.operation(value)
    if operation in _CONCATENATIONS:
        return _match_concatenation(view, value, wanted)
    source = _source(view, value)
    return None if source is None else _match_source(view, value, source, wanted)


def _match_source(
    view: ReferenceView, node: Node, source: Node, wanted: LevelGrid
) -> Match | Node | None:
    levels, given, operation = levels_of(source), view.grid(source), view.operation(node)
    if operation in AVERAGES:
        return match_average(view, node, levels, given, wanted)
    if operation in _UNMOVED:
        return between_grids(levels, given, wanted)
    if operation in PADS:
        return match_pad(view, node, between_grids(levels, given, wanted), wanted)
    mover = _MOVERS.get(operation)
    instruction = None if mover is None else mover(view, node)
    if instruction is not None:
        return between_grids(Match(instruction, (levels,), name_of(node)), given, wanted)
    # An item of what was cut is a tensor of a tuple, not a part of one.
    slices = slices_of(node) if operation is operator.getitem and node.args[0] is source else None
    if slices is None:
        return None
    moved: Match | Node = levels
    for instruction in slices:
        moved = Match(instruction, (moved,), name_of(node))
    return between_grids(moved, given, wanted)


def _source(view: ReferenceView, node: Node) -> Node | None:
    """The dequantize node that `node` alone reads; of an item, that of the tensor that was cut."""
    if node.target is operator.getitem and view.operation(node.all_input_nodes[0]) in CUTS:
        node = node.all_input_nodes[0]
    inputs = node.all_input_nodes
    if view.operation(node) in _SIZED:
        inputs = [each for each in inputs if size_of(each) is None]
    return inputs[0] if len(inputs) == 1 and is_dequantize(inputs[0]) else None


def _match_concatenation(view: ReferenceView, node: Node, wanted: LevelGrid) -> Match | None:
    tensors = node.args[0] if node.args else node.kwargs.get("tensors")
    if view.setting(node, 0, "dim", 0) != 1 or not isinstance(tensors, list | tuple):
        return None
    if not all(is_dequantize(tensor) for tensor in tensors):
        return None
    parts = [tensor for tensor in tensors if isinstance(tensor, Node)]
    inputs = [between_grids(levels_of(part), view.grid(part), wanted) for part in parts]
    return Match(Concatenate(), tuple(inputs), name_of(node))


def _upsample(view: ReferenceView, node: Node) -> Instruction | None:
    if view.setting(node, 2, "mode", "nearest") != "nearest":
        return None
    size = view.setting(node, 0, "size")
    if size is not None:
        pixels = pair(size)
        return None if pixels is None else UpsampleNearest(None, pixels)
    factor = view.setting(node, 1, "scale_factor")
    factors = factor if isinstance(factor, tuple | list) else (factor, factor)
    if any(each is None or each != int(each) or each < 1 for each in factors):
        return None
    return UpsampleNearest((int(factors[0]), int(factors[1])), None)


def _pixel_shuffle(view: ReferenceView, node: Node) -> Instruction | None:
    return PixelShuffle(int(view.setting(node, 0, "upscale_factor")))


def _flatten(view: ReferenceView, node: Node) -> Instruction | None:
    dimensions = view.setting(node, 0, "start_dim", 0), view.setting(node, 1, "end_dim", -1)
    return Flatten() if dimensions == (1, -1) else None


def _rows(view: ReferenceView, node: Node) -> Instruction | None:
    """``tensor.view(tensor.size(0), -1)``."""
    image, *sizes = node.args
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = list(sizes[0])
    if node.kwargs or len(sizes) != 2 or sizes[1] != -1 or not isinstance(image, Node):
        return None
    return Flatten() if is_batch(view, sizes[0], image) else None


def _item(view: ReferenceView, node: Node) -> Instruction | None:
    cut = node.all_input_nodes[0]
    return _part(view, node, cut) if view.operation(cut) in CUTS else _channels(node)


def _part(view: ReferenceView, node: Node, cut: Node) -> Instruction | None:
    """One of the tensors of a chunk or split of channels."""
    index = node.args[1]
    if not isinstance(index, int) or index < 0 or view.setting(cut, 1, "dim", 0) != 1:
        return None
    if cut.target in _CHUNKS:
        return ChannelChunk(int(view.setting(cut, 0, "chunks")), index)
    name = "split_size" if cut.target == "split" else "split_size_or_sections"
    size = view.setting(cut, 0, name)
    if isinstance(size, int):
        return ChannelSlice(size * index, size * (index + 1))
    if isinstance(size, tuple | list):
        return ChannelSlice(sum(size[:index]), sum(size[: index + 1]))
    return None


def _channels(node: Node) -> Instruction | None:
    """``tensor[:, start:stop]``."""
    index = node.args[1]
    if not isinstance(index, tuple) or len(index) < 2:
        return None
    channels, others = index[1], (index[0], *index[2:])
    if not isinstance(channels, slice) or any(each != slice(None) for each in others):
        return None
    start, stop = channels.start or 0, channels.stop
    if not isinstance(start, int) or not isinstance(stop, int) or channels.step not in (None, 1):
        return None
    return ChannelSlice(start, stop) if 0 <= start < stop else None


_CHUNKS = (torch.chunk, "chunk")
CUTS = (*_CHUNKS, torch.split, "split")
_CONCATENATIONS = (torch.cat, torch.concat)
_UNMOVED = (nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout, "contiguous")
_RESHAPES = ("view", "reshape", torch.reshape)
_SIZED = (*WINDOW_AVERAGES, *_RESHAPES)
_MOVERS: dict[Any, Mover] = {
    nn.MaxPool2d: max_pool_of, F.max_pool2d: max_pool_of,
    nn.Upsample: _upsample, F.interpolate: _upsample,
    nn.PixelShuffle: _pixel_shuffle, F.pixel_shuffle: _pixel_shuffle,
    nn.Flatten: _flatten, torch.flatten: _flatten, "flatten": _flatten,
    operator.getitem: _item, **dict.fromkeys(_RESHAPES, _rows),
}  # fmt: skip
