"""Abstract interpretation of a graph: each feature map as a convolution of earlier ones."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ...reparam import MapError, identity
from ..graph.constants import Constants
from ..graph.example import Inputs, run
from ..graph.run import LikeRecorder, is_feature_map
from ..tracing.plain_layers import layer_type
from . import (
    arithmetic_rules,
    border_rules,
    concat_rules,
    conversion_rules,
    layer_rules,
    layout_rules,
)
from .value import OPAQUE, AffineValue, Call, Rule, Source, View, called_module

# From operators to transfer functions, which say what they do to affine values.
_TABLES = (
    layer_rules, arithmetic_rules, border_rules, layout_rules, concat_rules, conversion_rules,
)  # fmt: skip
_MODULE_RULES = {**layer_rules.MODULE_RULES, **border_rules.MODULE_RULES}
_FUNCTION_RULES = {key: rule for table in _TABLES for key, rule in table.FUNCTION_RULES.items()}
_METHOD_RULES = {key: rule for table in _TABLES for key, rule in table.METHOD_RULES.items()}
_TAKES_SIZES = {torch.ops.aten.expand.default, "expand"}


@dataclass(frozen=True)
class Features:
    """A graph with what is known about its values from one run.

    Attributes:
        graph_module: The graph.
        shapes: Shapes of all feature maps: computed floating-point tensors of 2 to 5 axes.
        constants: The values that do not depend on inputs.
    """

    graph_module: GraphModule
    shapes: dict[Node, torch.Size]
    constants: Constants


def features_of(graph_module: GraphModule, inputs: Inputs) -> Features:
    """Run the graph on `inputs` and note what its values are like."""
    likes: dict[Node, Tensor] = {}
    run(LikeRecorder(graph_module, likes).run, inputs)
    return features_with(graph_module, likes)


def features_with(graph_module: GraphModule, likes: Mapping[Node, Tensor]) -> Features:
    """The features of a graph, of whose values a `LikeRecorder` has noted what they are like."""
    constants = Constants(graph_module, likes)
    computed = {
        node: likes[node].shape
        for node in graph_module.graph.nodes
        if node in likes and is_feature_map(likes[node]) and node not in constants
    }
    return Features(graph_module, computed, constants)


def affine_values(features: Features) -> dict[Node, AffineValue]:
    """How every node depends on earlier feature maps.

    A node is affine in the sources that all its operands are affine in, and every feature map also
    is the identity of itself, with its channels on the second or on the last axis. Maps are
    computed on the meta device: which regions exist and what they cost needs no numbers, and
    thousands of float64 kernels are never alive at once.
    """
    values: dict[Node, AffineValue] = {}
    for node in features.graph_module.graph.nodes:
        if node in features.constants:
            continue
        value = _value(features, node, values, torch.device("meta"))
        if node in features.shapes:
            axes = {1, len(features.shapes[node]) - 1}
            itself = {
                source: _identity(features, source, torch.device("meta"))
                for source in (Source(node, axis) for axis in sorted(axes))
            }
            value = replace(value, views={**value.views, **itself})
        values[node] = value
    return values


def evaluate(features: Features, source: Source, interior: Iterable[Node]) -> View:
    """The view, with numbers, that the last node of `interior` has of `source`.

    Args:
        features: The owner of the nodes.
        source: One of which the last interior node has a view in `affine_values`.
        interior: The nodes between `source`, exclusive, and the root, inclusive, in graph order.

    Raises:
        MapError: The numbers, which `affine_values` does not know, allow no view.
    """
    device = torch.device("cpu")
    values = {source.node: AffineValue({source: _identity(features, source, device)})}
    order = list(interior)
    last_use = {operand: node for node in order for operand in node.all_input_nodes}
    root = source.node
    for root in order:
        values[root] = _value(features, root, values, device)
        # Kernels of a large layer in float64 are large; only those that are still read stay.
        for operand in root.all_input_nodes:
            if last_use[operand] is root:
                values.pop(operand, None)
    result = values[root]
    if source not in result.views:
        raise MapError(result.refusals.get(source, "its numbers are not those of one convolution"))
    return result.views[source]


def _value(
    features: Features, node: Node, values: Mapping[Node, AffineValue], device: torch.device
) -> AffineValue:
    return _apply_rule(
        Call(node, features.graph_module, features.shapes, values, features.constants, device)
    )


def _identity(features: Features, source: Source, device: torch.device) -> View:
    shape = features.shapes[source.node]
    channels = shape[source.channel_axis]
    return View(identity(channels, len(shape) - 2, device), source.channel_axis)


def _apply_rule(call: Call) -> AffineValue:
    """The value of a node from the values of its operands, without its view of itself."""
    node = call.node
    rule: Rule | None = None
    if "out" in node.kwargs:
        return OPAQUE  # overwrites yet another tensor
    if node.target not in _TAKES_SIZES and not all(map(call.is_tensor, node.all_input_nodes)):
        return OPAQUE  # depends on a size or another number that is known only when the graph runs
    if node.op == "call_module":
        module = called_module(call.graph_module, node)
        rule = None if module is None else _MODULE_RULES.get(layer_type(module))
    elif node.op == "call_function" and callable(node.target):
        rule = _FUNCTION_RULES.get(node.target)
    elif node.op == "call_method":
        rule = _METHOD_RULES.get(str(node.target))
    return OPAQUE if rule is None else rule(call)
