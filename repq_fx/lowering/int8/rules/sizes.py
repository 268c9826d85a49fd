"""Numbers that a graph reads from the sizes of its tensors."""

import operator
from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.fx import Node

from ....backend.reference import ReferenceConv2d
from ...reference_view import ReferenceView, is_dequantize, is_quantize, levels_of, pair
from ..instructions import (
    AveragePool,
    ChannelLookup,
    Int8Convolution,
    Lookup,
    MaxPool,
    Quantize,
    UpsampleNearest,
)

# Their result has as many images as their input. A graph in the middle of lowering holds both float
# operations and instructions.
_KEEP_BATCH = (
    Int8Convolution, AveragePool, MaxPool, Quantize, Lookup, ChannelLookup, UpsampleNearest,
    ReferenceConv2d, nn.MaxPool2d, F.max_pool2d, nn.AvgPool2d, F.avg_pool2d,
    nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d, nn.ReLU, F.relu, nn.Dropout, F.dropout,
)  # fmt: skip


def size_of(node: Any) -> tuple[Node, Any] | None:
    """The tensor whose size `node` is, and the axis, or axes, by a number or slice."""
    if not isinstance(node, Node):
        return None
    if node.target == "size" and len(node.args) == 2 and not node.kwargs:
        tensor, axis = node.args
        return (tensor, axis) if isinstance(tensor, Node) else None
    sizes = node.args[0] if node.target is operator.getitem else None
    if not isinstance(sizes, Node):
        return None
    is_shape = sizes.target is getattr and sizes.args[1] == "shape"
    if is_shape or (sizes.target == "size" and len(sizes.args) == 1 and not sizes.kwargs):
        return sizes.all_input_nodes[0], node.args[1]
    return None


def window_of(value: Any, image: Node) -> tuple[int, int] | None:
    """A window as `AveragePool` takes it: numbers, or axes of `image` whose size it has."""
    sizes = size_of(value)
    if sizes is not None and sizes[1] in (slice(2, None), slice(-2, None)):
        return (-2, -1) if sizes[0] is image else None
    rows, columns = value if isinstance(value, tuple | list) and len(value) == 2 else (value, value)
    return pair((_length(rows, image), _length(columns, image)))


def _length(value: Any, image: Node) -> Any:
    sizes = size_of(value)
    if sizes is None:
        return value
    axis = {2: -2, 3: -1, -2: -2, -1: -1}.get(sizes[1]) if isinstance(sizes[1], int) else None
    return axis if sizes[0] is image else None


def is_batch(view: ReferenceView, value: Any, tensor: Node) -> bool:
    """Whether `value` is read from a size and certainly the number of images in `tensor`."""
    sizes = size_of(value)
    if sizes is None or sizes[1] != 0:
        return False
    source = levels_of(sizes[0]) if is_dequantize(sizes[0]) else sizes[0]
    while tensor is not source:
        keeps = is_quantize(tensor) or is_dequantize(tensor)
        if not keeps and view.operation(tensor) not in _KEEP_BATCH:
            return False
        tensor = tensor.all_input_nodes[0]
    return True
