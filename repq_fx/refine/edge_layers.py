"""The first and the last layers of a network, which may have a width of their own."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import nn
from torch.fx import GraphModule, Node

from ..backend.quantized_layer import weight_observer
from ..quant import ActivationObserver


def apply_first_last_bits(prepared: GraphModule) -> None:
    """Give the edges of the network the width that their observers name for it, in place."""
    layers = first_and_last_layers(prepared)
    for node in prepared.graph.nodes:
        if node.op != "call_module" or node.target not in layers:
            continue
        layer: Any = prepared.get_submodule(str(node.target))
        observer = weight_observer(layer)
        if observer is None or observer.first_last_bits is None:
            continue
        layer.qconfig = layer.qconfig._replace(
            weight=partial(layer.qconfig.weight, bits=observer.first_last_bits)
        )
        for source in node.all_input_nodes:
            read = (
                prepared.get_submodule(str(source.target)) if source.op == "call_module" else None
            )
            if isinstance(read, ActivationObserver):
                read.set_bits(observer.first_last_bits)


def first_and_last_layers(model: GraphModule) -> set[str]:
    """Names of the convolutions and linear layers that depend on none, or that none depends on."""
    kinds = (nn.Conv2d, nn.Linear)
    called = [node for node in model.graph.nodes if node.op == "call_module"]
    weighted = {node for node in called if type(model.get_submodule(str(node.target))) in kinds}
    below: set[Node] = set()
    for node in model.graph.nodes:
        if _meets(node.all_input_nodes, weighted | below):
            below.add(node)
    above: set[Node] = set()
    for node in reversed(model.graph.nodes):
        if _meets(node.users, weighted | above):
            above.add(node)
    return {str(node.target) for node in weighted if node not in below or node not in above}


def _meets(nodes: Iterable[Node], others: set[Node]) -> bool:
    return any(node in others for node in nodes)
