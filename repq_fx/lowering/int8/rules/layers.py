"""Convolutions and linear layers, with what is added to them and what follows."""

import torch
from torch.fx import Node

from ....backend.patterns import SUMS
from ....backend.reference import ReferenceConv2d, ReferenceLayer
from ...reference_view import ReferenceView, is_dequantize, is_read_once, levels_of, pair
from ..instructions import (
    ConvolutionGeometry,
    Epilogue,
    Instruction,
    Int8Convolution,
    Int8Layer,
    Int8Linear,
    LayerGrids,
)
from ..rule import Match
from .activations import Follower, peel

# More products of a level below 2**8 and a weight below 2**7 could leave int32.
_MOST_PRODUCTS = 2**31 // 2**15


def match_rounded_layer(view: ReferenceView, quantize: Node) -> Match | None:
    """``quantize(activation(layer + addend))``, of which the last two may be missing."""
    value, follower = peel(view, quantize)
    if not is_read_once(value):
        return None
    match = _match_sum(view, value, follower.before(view.grid(quantize)))
    return match if match is not None and _follows_channels(follower, match.instruction) else None


def _follows_channels(follower: Follower, layer: Instruction) -> bool:
    """Whether its numbers of channels, if it has any, are those of the channels of `layer`."""
    assert isinstance(layer, Int8Layer)
    count = layer.grids.epilogue.channels
    is_on_axis = follower.channel_shape == layer.channel_shape
    return count is None or (count == len(layer.weight) and is_on_axis)


def _match_sum(view: ReferenceView, value: Node, epilogue: Epilogue) -> Match | None:
    """A layer, perhaps with an addend."""
    if view.operation(value) not in SUMS:
        return match_layer(view, value, epilogue)
    if len(value.args) != 2 or value.kwargs or len(value.all_input_nodes) != 2:
        return None
    for layer, addend in (value.all_input_nodes, value.all_input_nodes[::-1]):
        if is_dequantize(addend) and is_read_once(layer):
            match = match_layer(view, layer, epilogue, addend)
            if match is not None:
                return match
    return None


def match_layer(
    view: ReferenceView, node: Node, epilogue: Epilogue, addend: Node | None = None
) -> Match | None:
    """A layer that reads levels; `addend`, a dequantize node, is added to it."""
    layer = view.module(node) if node.op == "call_module" else None
    if not isinstance(layer, ReferenceLayer) or len(node.args) != 1:
        return None
    source = node.args[0]
    if not is_dequantize(source) or not _has_integer_kernel(layer):
        return None
    assert isinstance(source, Node)
    grids = LayerGrids(view.grid(source), epilogue, None if addend is None else view.grid(addend))
    inputs = tuple(levels_of(each) for each in (source, addend) if each is not None)
    instruction: Int8Convolution | Int8Linear
    if isinstance(layer, ReferenceConv2d):
        geometry = _geometry(layer)
        if geometry is None:
            return None
        instruction = Int8Convolution(layer.quantized_weight, layer.bias, grids, geometry)
    else:
        instruction = Int8Linear(layer.quantized_weight, layer.bias, grids)
    return Match(instruction, inputs, str(node.target))


def _has_integer_kernel(layer: ReferenceLayer) -> bool:
    if layer.values.dtype != torch.int8 or layer.values[0].numel() > _MOST_PRODUCTS:
        return False
    return layer.coarse_values is None or layer.coarse_values.shape[2:] == (1, 1)


def _geometry(layer: ReferenceConv2d) -> ConvolutionGeometry | None:
    """None for padding that is not the same number of zeros on two opposite sides."""
    padding = _zeros_on_each_side(layer)
    stride, dilation = pair(layer.stride), pair(layer.dilation)
    if padding is None or stride is None or dilation is None:
        return None
    return ConvolutionGeometry(stride, padding, dilation, layer.groups)


def _zeros_on_each_side(layer: ReferenceConv2d) -> tuple[int, int] | None:
    if layer.padding_mode != "zeros":
        return None
    if layer.padding == "valid":
        return 0, 0
    if layer.padding == "same":
        extents = [d * (k - 1) for d, k in zip(layer.dilation, layer.values.shape[2:], strict=True)]
        return None if any(extent % 2 for extent in extents) else (extents[0] // 2, extents[1] // 2)
    return pair(layer.padding)
