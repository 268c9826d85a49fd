"""A graph and its layers as JSON and tensors, and back, and what of it a model file cannot hold."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ..errors import FileFormatError
from ..lowering.grids import note_grids
from ..lowering.int8.instructions import Instruction, Int8Program
from ..passes.gathering.elementwise_function import ElementwiseFunction
from .checks import check_path, checked, field
from .graph_nodes import decode_graph, encode_node
from .layer_state import MODULE_INTERNALS, layer_from_state, layer_state, layer_tensors, tensor_of


def encode_graph(
    graph_module: GraphModule, prefix: str, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    """The nodes and layers as JSON; adds tensors under their names behind `prefix`.

    Raises:
        FileFormatError: The graph holds a layer, function or value that a file cannot.
        ValueError: So does its message.
    """
    layers: dict[str, Any] = {}
    nodes = []
    for node in graph_module.graph.nodes:
        nodes.append(encode_node(node))
        name = f"{prefix}{node.target}"
        if node.op == "call_module" and node.target not in layers:
            layer = graph_module.get_submodule(node.target)
            if isinstance(layer, Int8Program):
                layers[node.target] = {"program": encode_graph(layer.body, f"{name}.", tensors)}
            elif isinstance(layer, ElementwiseFunction):
                body = encode_graph(layer.body, f"{name}.", tensors)
                layers[node.target] = {"function": body, "channels": layer.channels}
            else:
                layers[node.target] = layer_state(layer, name)
                tensors |= layer_tensors(layer, name)
        elif node.op == "get_attr":
            tensors[name] = tensor_attribute(graph_module, node.target)
    return {"nodes": nodes, "layers": layers}


def tensor_attribute(module: GraphModule, target: str) -> Tensor:
    """The tensor that a node `get_attr` reads.

    Raises:
        FileFormatError: It is something else.
    """
    owner, _, name = target.rpartition(".")
    value = getattr(module.get_submodule(owner), name)
    if not isinstance(value, Tensor):
        raise FileFormatError(f"save: attribute {target!r} is not a tensor.")
    return value


def build_graph(header: Any, tensors: dict[str, Tensor], prefix: str = "") -> GraphModule:
    """The inverse of `encode_graph`, in evaluation mode.

    Raises:
        ValueError: `header` holds what `encode_graph` does not write; torch may raise others.
    """
    attributes: dict[str, Any] = {}
    for name, state in field(header, "layers", dict).items():
        if not MODULE_INTERNALS.isdisjoint(check_path(name, "the layer").split(".")):
            raise ValueError(f"the layer {name!r} has a reserved name.")
        if "program" in state:
            body = build_graph(state["program"], tensors, f"{prefix}{name}.")
            attributes[name] = Int8Program(_checked_program(body, name))
        elif "function" in state:
            body = build_graph(state["function"], tensors, f"{prefix}{name}.")
            attributes[name] = ElementwiseFunction(body, _checked_channels(state.get("channels")))
        else:
            attributes[name] = layer_from_state(state, f"{prefix}{name}", tensors)
    graph = decode_graph(field(header, "nodes", list), attributes)
    layers = dict(attributes)
    for node in graph.find_nodes(op="get_attr"):
        tensor = tensor_of(f"{prefix}{node.target}", tensors)
        own = _parameter_of_a_layer(node.target, layers)
        attributes[node.target] = tensor if own is None else own
    graph.lint()
    model = GraphModule(attributes, graph)
    note_grids(model)
    return model.eval()


def _checked_channels(channels: Any) -> int | None:
    return None if channels is None else checked(channels, int, "'channels'")


def _parameter_of_a_layer(target: str, layers: Mapping[str, nn.Module]) -> nn.Parameter | None:
    """What `target` names if one of `layers` has it, for the graph may both call it and read it."""
    owner, _, name = target.rpartition(".")
    for path, layer in layers.items():
        if f"{owner}.".startswith(f"{path}."):
            inner = layer.get_submodule(owner[len(path) + 1 :])
            return inner._parameters.get(name)
    return None


def _checked_program(body: GraphModule, name: str) -> GraphModule:
    """A graph of instructions, one after the other, and nothing else."""
    for node in body.graph.nodes:
        is_step = node.op == "call_module" and isinstance(
            body.get_submodule(node.target), Instruction
        )
        operands = node.args[0] if node.op == "output" else node.args
        operands = operands if isinstance(operands, tuple | list) else (operands,)
        if (
            not (is_step or node.op in ("placeholder", "output"))
            or node.kwargs
            or not all(isinstance(operand, Node) for operand in operands)
        ):
            raise ValueError(f"{node.name!r} in the program {name!r} is not an instruction.")
    return body


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
