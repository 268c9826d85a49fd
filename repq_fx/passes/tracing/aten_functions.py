"""Which function of `torch` or `operator` says the same as an aten operator.

FX quantization and the region finder know operators by the names that people write in models.
"""

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch.fx import Graph, Node
from torch.nn import functional as F

_aten = torch.ops.aten

_SAME_ARGUMENTS: Mapping[Any, Callable[..., Any]] = MappingProxyType(
    {
        _aten.add.Tensor: operator.add,
        _aten.add.Scalar: operator.add,
        _aten.sub.Tensor: operator.sub,
        _aten.sub.Scalar: operator.sub,
        _aten.mul.Tensor: operator.mul,
        _aten.mul.Scalar: operator.mul,
        _aten.div.Tensor: operator.truediv,
        _aten.div.Scalar: operator.truediv,
        _aten.neg.default: operator.neg,
        _aten.relu.default: F.relu,
        _aten.relu6.default: F.relu6,
        _aten.hardtanh.default: F.hardtanh,
        _aten.leaky_relu.default: F.leaky_relu,
        _aten.prelu.default: F.prelu,
        _aten.silu.default: F.silu,
        _aten.mish.default: F.mish,
        _aten.gelu.default: F.gelu,
        _aten.hardswish.default: F.hardswish,
        _aten.hardsigmoid.default: F.hardsigmoid,
        _aten.sigmoid.default: torch.sigmoid,
        _aten.tanh.default: torch.tanh,
        _aten.conv1d.default: F.conv1d,
        _aten.conv1d.padding: F.conv1d,
        _aten.conv2d.default: F.conv2d,
        _aten.conv2d.padding: F.conv2d,
        _aten.conv3d.default: F.conv3d,
        _aten.conv3d.padding: F.conv3d,
        _aten.conv_transpose1d.default: F.conv_transpose1d,
        _aten.conv_transpose2d.input: F.conv_transpose2d,
        _aten.conv_transpose3d.input: F.conv_transpose3d,
        _aten.linear.default: F.linear,
        _aten.matmul.default: torch.matmul,
        _aten.avg_pool1d.default: F.avg_pool1d,
        _aten.avg_pool2d.default: F.avg_pool2d,
        _aten.avg_pool3d.default: F.avg_pool3d,
        _aten.max_pool1d.default: F.max_pool1d,
        _aten.max_pool2d.default: F.max_pool2d,
        _aten.max_pool3d.default: F.max_pool3d,
        _aten.adaptive_avg_pool1d.default: F.adaptive_avg_pool1d,
        _aten.adaptive_avg_pool2d.default: F.adaptive_avg_pool2d,
        _aten.adaptive_avg_pool3d.default: F.adaptive_avg_pool3d,
        _aten.pixel_shuffle.default: F.pixel_shuffle,
        _aten.pixel_unshuffle.default: F.pixel_unshuffle,
        _aten.pad.default: F.pad,
        _aten.cat.default: torch.cat,
        _aten.stack.default: torch.stack,
        _aten.split.Tensor: torch.split,
        _aten.chunk.default: torch.chunk,
        _aten.mean.default: torch.mean,
        _aten.mean.dim: torch.mean,
        _aten.flatten.using_ints: torch.flatten,
        _aten.permute.default: torch.permute,
        _aten.transpose.int: torch.transpose,
        _aten.squeeze.dim: torch.squeeze,
        _aten.squeeze.dims: torch.squeeze,
        _aten.unsqueeze.default: torch.unsqueeze,
        # Unlike a view, it also takes what a later pass or a kernel lays out in another way.
        _aten.view.default: torch.reshape,
        _aten._unsafe_view.default: torch.reshape,
        _aten.reshape.default: torch.reshape,
        # Operators see no proxy in a list of sizes, which passes that trace again put there.
        _aten.zeros.default: torch.zeros,
        _aten.ones.default: torch.ones,
        _aten.full.default: torch.full,
        _aten.eye.default: torch.eye,
        _aten.eye.m: torch.eye,
        _aten.arange.default: torch.arange,
        _aten.arange.start: torch.arange,
        _aten.arange.start_step: torch.arange,
        _aten.linspace.default: torch.linspace,
    }
)
_SAME_ARGUMENTS_AND_KEYWORDS: Mapping[Any, Callable[..., Any]] = MappingProxyType(
    {
        **_SAME_ARGUMENTS,
        _aten.add.Tensor: torch.add,
        _aten.add.Scalar: torch.add,
        _aten.sub.Tensor: torch.sub,
        _aten.sub.Scalar: torch.sub,
    }
)
_BY_NAME: Mapping[Any, tuple[Callable[..., Any], tuple[str, ...]]] = MappingProxyType(
    {
        _aten.constant_pad_nd.default: (F.pad, ("pad", "value")),
        _aten.softmax.int: (F.softmax, ("dim", "dtype")),
        _aten.layer_norm.default: (
            F.layer_norm,
            ("normalized_shape", "weight", "bias", "eps"),
        ),
        _aten._native_batch_norm_legit_no_training.default: (
            F.batch_norm,
            ("weight", "bias", "running_mean", "running_var", "momentum", "eps"),
        ),
    }
)
"""Functions with their parameters after the first in aten's order; aten may have more."""


def call_in_torch(graph: Graph, node: Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Node:
    """Append the call of an aten operator to `graph` as the function people write for it.

    An operator that has none is appended as it is.
    """
    if node.target in _BY_NAME:
        function, names = _BY_NAME[node.target]
        named = dict(zip(names, args[1:], strict=False))
        return graph.call_function(function, args[:1], {**named, **kwargs})
    table = _SAME_ARGUMENTS_AND_KEYWORDS if kwargs else _SAME_ARGUMENTS
    if node.target == _aten.sym_size.int:
        return graph.call_method("size", args)
    if callable(node.target):
        return graph.call_function(table.get(node.target, node.target), args, kwargs)
    raise TypeError(f"{node.format_node()} calls no operator")
