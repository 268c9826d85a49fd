"""Lowering of a reference graph to integer kernels on x86."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import GraphModule, Node

from .int8_layers import CfwsConv2d, Grids, Int8Conv2d, Int8Linear, runs_on_onednn
from .reference import ReferenceConv2d, ReferenceLayer
from .reference_graph import DEQUANTIZE, QUANTIZE

_LOGGER = logging.getLogger(__name__)
_INFINITE = (-math.inf, math.inf)

# Activation functions that only clip, which the requantization of a layer does for nothing.
_CLIPS: dict[Any, tuple[float, float]] = {
    nn.ReLU: (0.0, math.inf),
    F.relu: (0.0, math.inf),
    torch.relu: (0.0, math.inf),
    torch.relu_: (0.0, math.inf),
    "relu": (0.0, math.inf),
    "relu_": (0.0, math.inf),
    nn.ReLU6: (0.0, 6.0),
    F.relu6: (0.0, 6.0),
}


@dataclass(frozen=True)
class _Output:
    """What follows a layer: the node that integers replace, and the grid they are on."""

    node: Node
    scale: float
    zero_point: int
    lowest: int
    highest: int


def lower_to_x86(reference: GraphModule) -> GraphModule:
    """Replace reference layers by integer ones, in place, and return the graph module.

    A convolution or linear layer takes the integers that its `dequantize` read and gives those that
    the following `quantize` would, or float32 where none follows; clipping activation functions in
    between become bounds of the output. Layers without an integer kernel stay reference layers.
    """
    if not runs_on_onednn():
        _LOGGER.warning(
            "this CPU has no VNNI instructions, or this torch no oneDNN: the integer layers "
            "compute the same numbers in float64, slowly"
        )
    graph = reference.graph
    for node in list(graph.nodes):
        if node.op == "call_module":
            layer = reference.get_submodule(str(node.target))
            if isinstance(layer, ReferenceLayer):
                _lower_layer(reference, node, layer)
    for node in graph.nodes:
        if node.target is QUANTIZE:
            node.target = torch.ops.repq_fx.quantize.default
            node.args = node.args[:5]
    graph.eliminate_dead_code()
    graph.lint()
    reference.delete_all_unused_submodules()
    reference.recompile()
    return reference.eval()


def _lower_layer(reference: GraphModule, node: Node, layer: ReferenceLayer) -> None:
    source = node.args[0]
    build = _integer_layer(layer)
    if build is None or not isinstance(source, Node) or source.target is not DEQUANTIZE:
        _LOGGER.info("%s runs in float", node.target)
        return
    quantized, input_scale, input_zero_point = _arguments(source)[:3]
    output = _following_quantize(reference, node)
    grids = Grids(
        input_scale=input_scale,
        input_zero_point=input_zero_point,
        output_scale=None if output is None else output.scale,
        output_zero_point=0 if output is None else output.zero_point,
        output_min=0 if output is None else output.lowest,
        output_max=255 if output is None else output.highest,
    )
    # A layer that is called twice may be between different grids: one integer layer for each call.
    name = str(node.target)
    if len([other for other in reference.graph.nodes if other.target == name]) > 1:
        name = f"{name}_{node.name}"
    reference.add_submodule(name, build(grids))
    replaced = node if output is None else output.node
    with reference.graph.inserting_before(replaced):
        integers = reference.graph.call_module(name, (quantized,))
    replaced.replace_all_uses_with(integers)
    reference.graph.eliminate_dead_code()


def _integer_layer(layer: ReferenceLayer) -> Callable[[Grids], nn.Module] | None:
    """A constructor that lacks only the grids, or None if there is no integer kernel."""
    if layer.values.dtype != torch.int8:
        return None
    weight: dict[str, Any] = {
        "weight_int": layer.values,
        "weight_scale": layer.scale.expand(layer.values.shape[0]).contiguous(),
        "bias": layer.bias,
    }
    if not isinstance(layer, ReferenceConv2d):
        return lambda grids: Int8Linear(**weight, grids=grids)
    padding = _explicit_padding(layer)
    if padding is None:
        return None
    geometry: dict[str, Any] = {
        "stride": layer.stride,
        "padding": padding,
        "dilation": layer.dilation,
        "groups": layer.groups,
    }
    if layer.coarse_values is None or layer.coarse_scale is None:
        return lambda grids: Int8Conv2d(**weight, **geometry, grids=grids)
    if layer.coarse_values.shape[2:] != (1, 1):
        return None
    weight["coarse_int"] = layer.coarse_values
    weight["coarse_scale"] = layer.coarse_scale.expand(layer.values.shape[0]).contiguous()
    return lambda grids: CfwsConv2d(**weight, **geometry, grids=grids)


def _explicit_padding(layer: ReferenceConv2d) -> tuple[int, int] | None:
    """Rows and columns of zeros on each side, or None for padding that is neither."""
    if layer.padding_mode != "zeros":
        return None
    if layer.padding == "valid":
        return (0, 0)
    if layer.padding == "same":
        extents = [d * (k - 1) for d, k in zip(layer.dilation, layer.values.shape[2:], strict=True)]
        return None if any(extent % 2 for extent in extents) else (extents[0] // 2, extents[1] // 2)
    return (int(layer.padding[0]), int(layer.padding[1]))


def _following_quantize(reference: GraphModule, node: Node) -> _Output | None:
    """The `quantize` that alone reads the layer, directly or behind a clip."""
    user = _only_user(node)
    clip = _clip_of(reference, user)
    if clip is not None:
        user = _only_user(user)
    if user is None or user.target is not QUANTIZE:
        return None
    _, scale, zero_point, quant_min, quant_max = _arguments(user)[:5]
    inverse = torch.tensor(scale, dtype=torch.float32).reciprocal()
    levels = torch.round(torch.tensor(clip or _INFINITE) * inverse) + zero_point
    lowest, highest = levels.clamp(quant_min, quant_max).int().tolist()
    return _Output(user, scale, zero_point, lowest, highest)


def _arguments(node: Node) -> tuple[Any, ...]:
    """Positional arguments, whose types the op's schema guarantees."""
    return node.args


def _only_user(node: Node | None) -> Node | None:
    return next(iter(node.users)) if node is not None and len(node.users) == 1 else None


def _clip_of(reference: GraphModule, node: Node | None) -> tuple[float, float] | None:
    if node is None:
        return None
    if node.op == "call_module":
        return _CLIPS.get(type(reference.get_submodule(str(node.target))))
    return _CLIPS.get(node.target)
