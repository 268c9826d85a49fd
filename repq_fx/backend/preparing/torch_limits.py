"""What `prepare_fx` cannot take, would lose or not observe, and how each is worked round."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from ..._torch_ao import is_without_tensors
from ...passes.graph.module_names import free_name
from ..patterns import RANGE_PRESERVING_OPS

_NAME = "made_operand"


class _Observable(nn.Identity):
    """A layer that `prepare_fx` has no rule for: an operation of unknown range."""


class MadeOperands:
    """Steps in front of operands made of sizes, such as the coordinates in a concatenation.

    Operands of a concatenation share one observer. For those that no tensor goes into, `prepare_fx`
    places none; it then looks for one at whatever their sizes come from, and fails or takes that of
    another tensor. What a layer returns, it does observe.
    """

    def __init__(self) -> None:
        self._layers: set[str] = set()

    @contextmanager
    def behind_layers(self, graph_module: GraphModule) -> Iterator[None]:
        """Let each of them come out of a layer for as long as this lasts."""
        added = []
        for node in list(graph_module.graph.nodes):
            if node.op != "call_function" or node.target not in RANGE_PRESERVING_OPS:
                continue
            operands = node.args[0] if node.args else None
            for operand in operands if isinstance(operands, tuple | list) else ():
                if isinstance(operand, Node) and is_without_tensors(operand, graph_module):
                    added.append(self._put_layer_behind(graph_module, operand, node))
        graph_module.recompile()
        try:
            yield
        finally:
            for layer in added:
                _erase_layer(layer)
            graph_module.delete_all_unused_submodules()
            graph_module.recompile()

    def remove_layers(self, prepared: GraphModule) -> None:
        """Take the layers out of what became of the graph, in place."""
        for node in list(prepared.graph.nodes):
            if node.op == "call_module" and node.target in self._layers:
                _erase_layer(node)
        prepared.delete_all_unused_submodules()
        prepared.recompile()

    def _put_layer_behind(self, graph_module: GraphModule, operand: Node, reader: Node) -> Node:
        name = free_name(graph_module, _NAME)
        graph_module.add_submodule(name, _Observable())
        self._layers.add(name)
        with graph_module.graph.inserting_before(reader):
            layer = graph_module.graph.call_module(name, (operand,))
        reader.replace_input_with(operand, layer)
        return layer


def _erase_layer(layer: Node) -> None:
    layer.replace_all_uses_with(layer.all_input_nodes[0])
    layer.graph.erase_node(layer)


class OutputShell:
    """What a graph returns, apart from the nodes that compute the values in it.

    `prepare_fx` refuses an output that holds a number, and makes a dictionary of each kind of
    mapping.

    Args:
        graph_module: The graph; not changed.
    """

    def __init__(self, graph_module: GraphModule) -> None:
        self._returned: Any = graph_module.graph.output_node().args[0]
        self._values: dict[Node, None] = {}
        map_arg(self._returned, self._collect)

    @contextmanager
    def taken_off(self, graph_module: GraphModule) -> Iterator[None]:
        """Let the graph return a tuple of its values for as long as this lasts."""
        output = graph_module.graph.output_node()
        output.args = (tuple(self._values),)
        graph_module.recompile()
        try:
            yield
        finally:
            output.args = (self._returned,)
            graph_module.recompile()

    def put_on(self, prepared: GraphModule) -> None:
        """Give a graph that returns such a tuple what was around it, in place."""
        output = prepared.graph.output_node()
        found: Any = output.args[0]
        values: dict[Node, Node] = dict(zip(self._values, found, strict=True))

        def place(node: Node) -> Node:
            if node in values:
                return values[node]
            args, kwargs = map_arg((node.args, node.kwargs), place)
            function: Any = node.target
            construction: Node = prepared.graph.call_function(function, args, kwargs)
            return construction

        with prepared.graph.inserting_before(output):
            output.args = (map_arg(self._returned, place),)
        prepared.recompile()

    def _collect(self, node: Node) -> Node:
        if _constructs(node):
            map_arg((node.args, node.kwargs), self._collect)
        else:
            self._values[node] = None
        return node


def _constructs(node: Node) -> bool:
    """Whether a node makes a container by a call of its class."""
    return node.op == "call_function" and isinstance(node.target, type)


def call_batch_statistics(graph_module: GraphModule) -> None:
    """Call every batch normalization without running statistics as a function, in place.

    It normalizes by each batch anew, in evaluation mode too, so that no fixed scale stands for it;
    `prepare_fx` would fold the layer into a convolution before it, and fails.

    Args:
        graph_module: A graph in evaluation mode that the caller owns.
    """
    for node in list(graph_module.graph.nodes):
        if node.op != "call_module":
            continue
        layer = graph_module.get_submodule(str(node.target))
        if type(layer) is nn.BatchNorm2d and layer.running_mean is None:
            with graph_module.graph.inserting_before(node):
                node.replace_all_uses_with(_call(graph_module, node, layer))
            graph_module.graph.erase_node(node)
    graph_module.recompile()


def _call(graph_module: GraphModule, node: Node, layer: nn.BatchNorm2d) -> Node:
    values = node.args[0] if node.args else node.kwargs["input"]
    tensors = {"weight": layer.weight, "bias": layer.bias}
    settings = {
        name: None if tensor is None else _read(graph_module, f"{node.name}_{name}", tensor)
        for name, tensor in tensors.items()
    }
    return graph_module.graph.call_function(
        F.batch_norm, (values, None, None), {**settings, "training": True, "eps": layer.eps}
    )


def _read(graph_module: GraphModule, wish: str, tensor: nn.Parameter) -> Node:
    name = free_name(graph_module, wish)
    graph_module.register_parameter(name, tensor)
    return graph_module.graph.get_attr(name)
