"""Replace what layers compute from parameters alone by its value."""

from operator import attrgetter

from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ..graph.constants import Constants


def fold_constants(graph_module: GraphModule) -> None:
    """Let no layer run on constants, such as that of a learned gate, in place.

    What layers make of parameters becomes one parameter, in front of the first step that depends on
    an input, unless it is larger than all that it is made of. Layers that nothing calls any more
    stay in the module; `remove_unused` takes them.

    Args:
        graph_module: A graph in evaluation mode that the caller owns.
    """
    constants = Constants(graph_module)
    for node in list(graph_module.graph.nodes):
        is_read = any(user not in constants for user in node.users)
        if node.op == "get_attr" or node not in constants or not is_read:
            continue
        read = constants.reads(node)
        value = constants.value(node)
        if value is not None and any(each.op == "call_module" for each in read):
            tensors = {t for each in read for t in _tensors(graph_module, each)}
            if value.numel() <= sum(tensor.numel() for tensor in tensors):
                trained = any(tensor.requires_grad for tensor in tensors)
                _replace(graph_module, node, nn.Parameter(value.clone(), trained))
    graph_module.graph.lint()
    graph_module.recompile()


def _tensors(graph_module: GraphModule, node: Node) -> list[Tensor]:
    owner = attrgetter(str(node.target))(graph_module)
    return [owner] if isinstance(owner, Tensor) else [*owner.parameters(), *owner.buffers()]


def _replace(graph_module: GraphModule, node: Node, value: nn.Parameter) -> None:
    name = f"{node.name}_value"
    while hasattr(graph_module, name):
        name += "_"
    graph_module.register_parameter(name, value)
    with graph_module.graph.inserting_before(node):
        node.replace_all_uses_with(graph_module.graph.get_attr(name))
