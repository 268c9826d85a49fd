"""The float network in a prepared one."""

import copy

from torch.fx import GraphModule

from ..backend.preparing.unread_observers import erase_observer, observer_of


def float_network(prepared: GraphModule) -> GraphModule:
    """What `prepared` computes without observers; the layers are its own, not copies."""
    graph = copy.deepcopy(prepared.graph)
    for node in list(graph.nodes):
        if observer_of(prepared, node) is not None:
            erase_observer(node)
    return GraphModule(prepared, graph)
