"""Abstract interpretation of a graph: each feature map as a convolution of earlier ones."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import GraphModule, Node

from ..reparam import ConvMap, identity
from .affine_rules import apply_rule
from .affine_value import AffineValue, Call
from .example import run

Shapes = Mapping[Node, torch.Size]


def feature_shapes(graph_module: GraphModule, inputs: tuple[Tensor, ...]) -> dict[Node, torch.Size]:
    """Shapes of all 4-D floating-point values when the graph runs on `inputs`."""
    recorder = _ShapeRecorder(graph_module)
    run(recorder.run, inputs)
    return recorder.shapes


def affine_values(graph_module: GraphModule, shapes: Shapes) -> dict[Node, AffineValue]:
    """How every node depends on earlier feature maps.

    A node is affine in the sources that all its operands are affine in, and every feature map also
    is the identity of itself. Maps are computed on the meta device: which regions exist and what
    they cost needs no numbers, and thousands of float64 kernels are never alive at once.
    """
    values: dict[Node, AffineValue] = {}
    device = torch.device("meta")
    for node in graph_module.graph.nodes:
        value = apply_rule(Call(node, graph_module, shapes, values, device))
        if node in shapes:
            itself = {node: identity(shapes[node][1], device)}
            value = AffineValue({**value.views, **itself}, value.refusals)
        values[node] = value
    return values


def evaluate(
    graph_module: GraphModule, shapes: Shapes, source: Node, interior: Iterable[Node]
) -> ConvMap:
    """The map, with numbers, from `source` to the last node of `interior`.

    Args:
        graph_module: The owner of the nodes.
        shapes: From `feature_shapes`.
        source: A node of which the last interior node has a view in `affine_values`.
        interior: The nodes between `source`, exclusive, and the root, inclusive, in graph order.
    """
    device = torch.device("cpu")
    values = {source: AffineValue({source: identity(shapes[source][1], device)})}
    root = source
    for root in interior:
        values[root] = apply_rule(Call(root, graph_module, shapes, values, device))
    return values[root].views[source]


class _ShapeRecorder(fx.Interpreter):
    def __init__(self, graph_module: GraphModule) -> None:
        super().__init__(graph_module)
        self.shapes: dict[Node, torch.Size] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        is_image = isinstance(result, Tensor) and result.ndim == 4 and result.is_floating_point()
        if is_image and n.op not in ("get_attr", "output"):
            self.shapes[n] = result.shape
        return result
