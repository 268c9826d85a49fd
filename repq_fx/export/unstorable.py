"""What of a graph a model file could not hold: a question that can be asked before the work."""

from torch.fx import GraphModule, Node

from ..errors import FileFormatError
from ..lowering.int8.instructions import Int8Program
from .graph_nodes import encode_node
from .layer_state import layer_state
from .saved_graph import tensor_attribute


def unstorable(graph_module: GraphModule) -> list[str]:
    """A phrase for each node that `write_model` would refuse, which names it and its module.

    Quantization keeps functions and layers or makes ones of its own from them, which can be stored:
    a float graph with nothing unstorable becomes a quantized one with nothing unstorable.
    """
    reasons: list[str] = []
    for node in graph_module.graph.nodes:
        try:
            _check(graph_module, node)
        except (FileFormatError, ValueError) as error:
            reason = str(error).removeprefix("save: ").removesuffix(".")
            reasons.append(f"{reason} (node {node.name!r}{_module_of(node)})")
    return reasons


def _check(graph_module: GraphModule, node: Node) -> None:
    """Encode what `write_model` would of one node, but for tensors."""
    encode_node(node)
    if node.op == "call_module":
        layer = graph_module.get_submodule(str(node.target))
        if not isinstance(layer, Int8Program):  # Of instructions, all of which can be stored.
            layer_state(layer, str(node.target))
    elif node.op == "get_attr":
        tensor_attribute(graph_module, str(node.target))


def _module_of(node: Node) -> str:
    """The module whose code called, as far as the tracer noted it."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    name = stack[-1][0] if stack else ""
    return f" of module {name!r}" if name else ""
