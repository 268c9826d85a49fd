"""Batch normalization by the statistics of the batch, in a form that nothing folds."""

import torch.nn.functional as F
from torch import nn
from torch.fx import GraphModule, Node

from ...passes.graph.module_names import free_name


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
