"""Model files: a quantized graph as one safetensors file, with nothing to execute in it.

The header holds the graph as JSON: nodes by name, functions by name out of a closed set (torch's
own tensor functions, a few operators, our ops), and for each layer its type, out of `torch.nn` and
our own layers, and its plain attributes. Loading looks names up; it never imports or evaluates.
"""

import dataclasses
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load as tensors_of
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from .._atomic_file import write_atomically
from ..backend.int8 import Instruction, Int8Program
from ..backend.reference_grids import note_grids
from ..errors import FileFormatError, RepqError
from ..passes.elementwise_function import ElementwiseFunction
from . import checksum
from .fields import checked, field
from .graph_nodes import decode_graph, encode_node
from .layer_state import MODULE_INTERNALS, layer_from_state, layer_state, layer_tensors, tensor_of
from .names import check_path
from .shared_tensors import without_repeats

_LOGGER = logging.getLogger(__name__)
_METADATA_KEY = "repq_fx"  # The only one: safetensors writes several in random order.
_SURROUNDINGS = "surroundings"  # In the header, and before the names of their tensors.
_REPEATS = "repeats"  # In the header: names of tensors that are stored under another name.
_VERSION = 3  # 1 had other layers for lowered networks.
_FIRST_SEALED = 3  # From here on a file holds its checksum.


@dataclass(frozen=True)
class Surroundings:
    """What a graph is part of, for whoever puts it back there.

    Attributes:
        kind: Who that is.
        settings: What it needs to know, as JSON values.
        tensors: What it needs of parameters.
    """

    kind: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    tensors: dict[str, Tensor] = dataclasses.field(default_factory=dict)


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
    header: dict[str, Any] = {checksum.KEY: checksum.BLANK, "version": _VERSION}
    try:
        header |= _encode_graph(quantized, "", tensors)
    except ValueError as error:
        raise FileFormatError(f"save: {error}") from error
    if surroundings is not None:
        header[_SURROUNDINGS] = {"kind": surroundings.kind, "settings": surroundings.settings}
        tensors |= {f"{_SURROUNDINGS}.{n}": t for n, t in surroundings.tensors.items()}
    stored, header[_REPEATS] = without_repeats(tensors)
    content = safetensors_bytes(stored, {_METADATA_KEY: json.dumps(header)})
    write_atomically(path, checksum.sealed(content))


def read_model(path: str | os.PathLike[str]) -> tuple[GraphModule, Surroundings | None]:
    """Read what `write_model` wrote, onto the CPU and in evaluation mode.

    Returns:
        The model, with tensors of its own, and what it is part of.

    Raises:
        FileFormatError: The file is missing, truncated, not ours, of a newer version, damaged, or
            refers to something that is not in the closed set.
    """
    if not Path(path).is_file():
        raise FileFormatError(f"load: there is no file {str(path)!r}.")
    try:
        content = Path(path).read_bytes()
        tensors = tensors_of(content)
    except Exception as error:  # Also what names of unknown types raise.
        raise FileFormatError(
            f"load: {str(path)!r} is truncated or not a safetensors file: {error}"
        ) from error
    with refusal_of_damage(path):
        header = _header(content, str(path))
        del content  # As large as the tensors.
        for name, stored in header.get(_REPEATS, {}).items():
            tensors[name] = tensor_of(stored, tensors)
        graph = _build(header, tensors)
        around = header.get(_SURROUNDINGS)
        if around is None:
            return graph, None
        prefix = f"{_SURROUNDINGS}."
        own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        kind, settings = field(around, "kind", str), field(around, "settings", dict)
        return graph, Surroundings(kind, settings, own)


@contextmanager
def refusal_of_damage(path: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever is raised inside, out of what a file at `path` says, is a `FileFormatError`.

    Raises:
        FileFormatError: Always, where anything but a refusal of our own was raised.
    """
    try:
        yield
    except RepqError:
        raise
    except Exception as error:  # Torch, torch.fx and Python's compiler raise what they please.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise FileFormatError(f"load: {str(path)!r} is damaged: {reason}") from error


def _header(content: bytes, path: str) -> dict[str, Any]:
    """The header of a file that is as it was written."""
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    if _METADATA_KEY not in metadata:
        raise FileFormatError(f"load: {path!r} was not written by repq_fx.save.")
    header = checked(json.loads(metadata[_METADATA_KEY]), dict, "its header")
    version = field(header, "version", int)
    if version > _VERSION:
        raise FileFormatError(
            f"load: {path!r} has format version {version}, newer than {_VERSION}; update repq_fx."
        )
    if version >= _FIRST_SEALED and not checksum.is_intact(
        content, field(header, checksum.KEY, str)
    ):
        raise FileFormatError(f"load: {path!r} is damaged: it does not have its own checksum.")
    return header


def _encode_graph(
    graph_module: GraphModule, prefix: str, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    """The nodes and layers as JSON; adds tensors under their names behind `prefix`."""
    layers: dict[str, Any] = {}
    nodes = []
    for node in graph_module.graph.nodes:
        nodes.append(encode_node(node))
        name = f"{prefix}{node.target}"
        if node.op == "call_module" and node.target not in layers:
            layer = graph_module.get_submodule(node.target)
            if isinstance(layer, Int8Program):
                layers[node.target] = {"program": _encode_graph(layer.body, f"{name}.", tensors)}
            elif isinstance(layer, ElementwiseFunction):
                body = _encode_graph(layer.body, f"{name}.", tensors)
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


def _build(header: Any, tensors: dict[str, Tensor], prefix: str = "") -> GraphModule:
    attributes: dict[str, Any] = {}
    for name, state in field(header, "layers", dict).items():
        if not MODULE_INTERNALS.isdisjoint(check_path(name, "the layer").split(".")):
            raise ValueError(f"the layer {name!r} has a reserved name.")
        if "program" in state:
            body = _build(state["program"], tensors, f"{prefix}{name}.")
            attributes[name] = Int8Program(_checked_program(body, name))
        elif "function" in state:
            body = _build(state["function"], tensors, f"{prefix}{name}.")
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
