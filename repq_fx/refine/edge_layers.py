"""The first and the last layers of a network, which may have a width of their own."""

from collections.abc import Iterable
from dataclasses import replace

from torch import nn
from torch.fx import GraphModule, Node

from ..backend.prepared_view import PreparedView


def plan_edges(view: PreparedView) -> None:
    """Give the edges of the network the width that their plans name for it, in place."""
    edges = first_and_last_layers(view.graph_module)
    for node, plan in view.layers.items():
        if str(node.target) not in edges:
            continue
        view.plans[str(node.target)] = plan.at_edge()
        for source in node.all_input_nodes:
            observer = view.observer(source)
            if observer is not None and plan.first_last_bits is not None:
                observer.plan = replace(observer.plan, activation_bits=plan.first_last_bits)


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
