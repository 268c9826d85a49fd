"""Batch normalization that a forward writes as a function, as the layer that it is."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ..graph.constants import Constants
from ..graph.module_names import free_name

_PARAMETERS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum",
               "eps")  # fmt: skip
_TENSORS = ("running_mean", "running_var", "weight", "bias")


def call_norm_layers(graph_module: GraphModule, likes: Mapping[Node, Tensor]) -> None:
    """Call a layer for each normalization of images by fixed statistics, in place.

    Norms that are traced through, such as timm's with an activation, leave calls of the function
    behind where nothing is there to merge them with; what comes later knows the layer.

    Args:
        graph_module: A graph in evaluation mode, with canonical calls, that the caller owns.
        likes: Tensors of the shapes of its values.
    """
    constants = Constants(graph_module)
    for node in list(graph_module.graph.nodes):
        if node.target is not F.batch_norm or node not in likes or likes[node].ndim != 4:
            continue
        given = {**dict(zip(_PARAMETERS, node.args, strict=False)), **node.kwargs}
        layer = None if given.get("training") else _layer(given, constants)
        if layer is not None:
            owner = str(given["running_mean"].target).rpartition(".")[0]
            name = free_name(graph_module, owner or node.name)
            graph_module.add_submodule(name, layer)
            with graph_module.graph.inserting_before(node):
                call = graph_module.graph.call_module(name, (given["input"],))
            node.replace_all_uses_with(call)
            graph_module.graph.erase_node(node)


def _layer(given: Mapping[str, object], constants: Constants) -> nn.BatchNorm2d | None:
    """The layer of a call with these arguments, or None if they are computed from an input."""
    tensors = {name: given.get(name) for name in _TENSORS}
    known = {n: constants.value(t) if isinstance(t, Node) else None for n, t in tensors.items()}
    eps, mean, variance = given.get("eps", 1e-5), known["running_mean"], known["running_var"]
    is_known = all(known[name] is not None or tensors[name] is None for name in _TENSORS)
    if not is_known or mean is None or variance is None or not isinstance(eps, float):
        return None
    layer = nn.BatchNorm2d(len(mean), eps).to(mean).eval()
    for name, tensor in known.items():
        if tensor is not None:
            getattr(layer, name).data.copy_(tensor)
    return layer
