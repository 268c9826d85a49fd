"""Running a graph node by node, and recording what its values are like."""

from typing import Any

import torch
from torch import Tensor, fx
from torch.fx import GraphModule, Node
from torch.fx.immutable_collections import immutable_dict, immutable_list


class GraphRun(fx.Interpreter):
    """Runs a graph as its own code would.

    That code makes new lists and dictionaries for each call. `torch.fx.Interpreter` passes those of
    the node, which nothing may change; but a layer that is kept as a leaf may overwrite its list of
    features. And where a node fails, the error says no more than the operator does.
    """

    def __init__(self, graph_module: GraphModule, *, garbage_collect_values: bool = True) -> None:
        super().__init__(graph_module, garbage_collect_values=garbage_collect_values)
        self.extra_traceback = False

    def fetch_args_kwargs_from_env(self, n: Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The values of the arguments of a node."""
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        named = {name: own_containers(value) for name, value in kwargs.items()}
        return tuple(map(own_containers, args)), named


def own_containers(argument: Any) -> Any:
    """Arguments of a node with new lists and dictionaries in place of those that are its own."""
    if isinstance(argument, immutable_list):
        return [own_containers(entry) for entry in argument]
    if isinstance(argument, immutable_dict):
        return {key: own_containers(entry) for key, entry in argument.items()}
    return tuple(map(own_containers, argument)) if type(argument) is tuple else argument


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
