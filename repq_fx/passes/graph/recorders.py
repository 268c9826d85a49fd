"""What the values of a graph are like: recorded in a run."""

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from .run import GraphRun


class ShapeRecorder(GraphRun):
    """Runs a graph and notes the shapes of floating-point tensors of 2 to 5 axes."""

    def __init__(self, graph_module: GraphModule, shapes: dict[Node, torch.Size]) -> None:
        super().__init__(graph_module)
        self._shapes = shapes

    def run_node(self, n: Node) -> Any:
        """Run one node."""
        result = super().run_node(n)
        if isinstance(result, Tensor) and is_feature_map(result):
            self._shapes[n] = result.shape
        return result


class LikeRecorder(GraphRun):
    """Runs a graph and notes a tensor like each, of its type, device and shape but one element."""

    def __init__(self, graph_module: GraphModule, likes: dict[Node, Tensor]) -> None:
        super().__init__(graph_module)
        self._likes = likes

    def run_node(self, n: Node) -> Any:
        """Run one node."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self._likes[n] = result.new_empty(()).expand(result.shape)
        return result


def is_feature_map(value: Tensor) -> bool:
    """Whether `value` is a floating-point tensor of 2 to 5 axes."""
    return 2 <= value.ndim <= 5 and value.is_floating_point()
