"""Model files: a quantized graph as one safetensors file, with nothing to execute in it.

The header holds the graph as JSON: nodes by name, functions by name out of a closed set (torch's
own tensor functions, a few operators, our ops), and for each layer its type, out of `torch.nn` and
our own layers, and its plain attributes. Loading looks names up; it never imports or evaluates.
"""

import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from .._atomic_file import write_atomically
from ..backend.int8 import Int8Program
from ..errors import FileFormatError
from .json_values import decode, encode
from .layer_state import layer_from_state, layer_state, layer_tensors
from .targets import ATTRIBUTES, check_method, function_from_name, function_name

_LOGGER = logging.getLogger(__name__)
_METADATA_KEY = "repq_fx"  # The only one: safetensors writes several in random order.
_SURROUNDINGS = "surroundings"  # In the header, and before the names of their tensors.
_VERSION = 2  # 1 had other layers for lowered networks.


@dataclass(frozen=True)
class Surroundings:
    """What a graph is part of, for whoever puts it back there.

    Attributes:
        kind: Who that is.
        settings: What it needs to know, as JSON values.
        tensors: What it needs of parameters.
    """

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def write_model(
    quantized: GraphModule,
    path: str | os.PathLike[str],
    surroundings: Surroundings | None = None,
) -> None:
    """Write a converted model; the file appears whole or not at all.

    Args:
        quantized: The model, or the part of one that was quantized.
        path: The file.
        surroundings: What `quantized` is part of.

    Raises:
        FileFormatError: The graph holds a layer or function that the format does not know.
        OSError: `path` is not writable.
    """
    if not isinstance(quantized, GraphModule):
        raise FileFormatError(
            f"save: expected a converted GraphModule, got {type(quantized).__name__}."
        )
    tensors: dict[str, Tensor] = {}
    header = {"version": _VERSION, **_encode_graph(quantized, "", tensors)}
    if surroundings is not None:
        header[_SURROUNDINGS] = {"kind": surroundings.kind, "settings": surroundings.settings}
        tensors |= {f"{_SURROUNDINGS}.{n}": t for n, t in surroundings.tensors.items()}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, safetensors_bytes(contiguous, {_METADATA_KEY: json.dumps(header)}))


def read_model(path: str | os.PathLike[str]) -> tuple[GraphModule, Surroundings | None]:
    """Read what `write_model` wrote, onto the CPU and in evaluation mode.

    Raises:
        FileFormatError: The file is missing, truncated, not ours, of a newer version, or refers to
            something that is not in the closed set.
    """
    if not Path(path).is_file():
        raise FileFormatError(f"load: there is no file {str(path)!r}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FileFormatError(
            f"load: {str(path)!r} is truncated or not a safetensors file: {error}"
        ) from error
    if _METADATA_KEY not in metadata:
        raise FileFormatError(f"load: {str(path)!r} was not written by repq_fx.save.")
    try:
        header = json.loads(metadata[_METADATA_KEY])
        if header["version"] > _VERSION:
            raise FileFormatError(
                f"load: {str(path)!r} has format version {header['version']}, newer than "
                f"{_VERSION}; update repq_fx."
            )
        around = header.get(_SURROUNDINGS)
        graph = _build(header, tensors)
        if around is None:
            return graph, None
        prefix = f"{_SURROUNDINGS}."
        own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        return graph, Surroundings(around["kind"], around["settings"], own)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise FileFormatError(f"load: {str(path)!r} is damaged: {error}") from error


def _encode_graph(
    graph_module: GraphModule, prefix: str, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    """The nodes and layers as JSON; adds tensors under their names behind `prefix`."""
    layers: dict[str, Any] = {}
    nodes = []
    for node in graph_module.graph.nodes:
        nodes.append(_encode_node(node))
        name = f"{prefix}{node.target}"
        if node.op == "call_module" and node.target not in layers:
            layer = graph_module.get_submodule(node.target)
            if isinstance(layer, Int8Program):
                layers[node.target] = {"program": _encode_graph(layer.body, f"{name}.", tensors)}
            else:
                layers[node.target] = layer_state(layer, name)
                tensors |= layer_tensors(layer, name)
        elif node.op == "get_attr":
            tensors[name] = _tensor_attribute(graph_module, node.target)
    return {"nodes": nodes, "layers": layers}


def _tensor_attribute(module: GraphModule, target: str) -> Tensor:
    owner, _, name = target.rpartition(".")
    value = getattr(module.get_submodule(owner), name)
    if not isinstance(value, Tensor):
        raise FileFormatError(f"save: attribute {target!r} is not a tensor.")
    return value


def _encode_node(node: Node) -> dict[str, Any]:
    operation, target, args = node.op, node.target, node.args
    if target is getattr and args[1] in ATTRIBUTES:
        target = "getattr"
    elif operation == "call_function":
        target = function_name(target)
    elif operation == "call_method":
        check_method(str(target))
    return {
        "op": operation,
        "name": node.name,
        "target": target,
        "args": encode(args),
        "kwargs": encode(node.kwargs),
    }


def _build(header: dict[str, Any], tensors: dict[str, Tensor], prefix: str = "") -> GraphModule:
    attributes: dict[str, Any] = {}
    for name, state in header["layers"].items():
        if "program" in state:
            body = _build(state["program"], tensors, f"{prefix}{name}.")
            attributes[name] = Int8Program(body)
        else:
            attributes[name] = layer_from_state(state, f"{prefix}{name}", tensors)
    graph = Graph()
    nodes: dict[str, Node] = {}
    for entry in header["nodes"]:
        operation, target = entry["op"], entry["target"]
        if target == "getattr" and entry["args"]["tuple"][1] in ATTRIBUTES:
            target = getattr
        elif operation == "call_function":
            target = function_from_name(target)
        elif operation == "call_method":
            check_method(target)
        elif operation == "get_attr":
            attributes[target] = tensors[f"{prefix}{target}"]
        args, kwargs = decode(entry["args"], nodes), decode(entry["kwargs"], nodes)
        if operation == "output":
            graph.output(args[0])
        else:
            created = graph.create_node(operation, target, args, kwargs, entry["name"])
            nodes[entry["name"]] = created
    graph.lint()
    return GraphModule(attributes, graph).eval()
