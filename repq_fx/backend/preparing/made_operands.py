"""Operands that the graph makes of sizes and numbers, which `prepare_fx` would not observe."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.fx import GraphModule, Node

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
                _erase(layer)
            graph_module.delete_all_unused_submodules()
            graph_module.recompile()

    def remove_layers(self, prepared: GraphModule) -> None:
        """Take the layers out of what became of the graph, in place."""
        for node in list(prepared.graph.nodes):
            if node.op == "call_module" and node.target in self._layers:
                _erase(node)
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


def _erase(layer: Node) -> None:
    layer.replace_all_uses_with(layer.all_input_nodes[0])
    layer.graph.erase_node(layer)
