"""Model files: a quantized graph as one safetensors file, with nothing to execute in it.

The header holds the graph as JSON: nodes by name, functions by name out of a closed set (torch's
own tensor functions, a few operators, our ops), and for each layer its type, out of `torch.nn` and
our own layers, and its plain attributes. Loading looks names up; it never imports or evaluates.
"""

import dataclasses
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load as tensors_of
from safetensors.torch import save as safetensors_bytes
from torch import Tensor
from torch.fx import GraphModule

from .._atomic_file import write_atomically
from ..errors import FileFormatError, RepqError
from . import checksum
from .checks import checked, field
from .layer_state import tensor_of
from .saved_graph import build_graph, encode_graph

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
        header |= encode_graph(quantized, "", tensors)
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
    content = _content_of(path)
    try:
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
        graph = build_graph(header, tensors)
        around = header.get(_SURROUNDINGS)
        if around is None:
            return graph, None
        prefix = f"{_SURROUNDINGS}."
        own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        kind, settings = field(around, "kind", str), field(around, "settings", dict)
        return graph, Surroundings(kind, settings, own)


def _content_of(path: str | os.PathLike[str]) -> bytes:
    if not Path(path).exists():
        raise FileFormatError(f"load: there is no file {str(path)!r}.")
    if not Path(path).is_file():  # A pipe would be waited for.
        raise FileFormatError(f"load: {str(path)!r} is no regular file.")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileFormatError(f"load: {str(path)!r} cannot be read: {error.strerror}.") from error


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


def without_repeats(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Contiguous CPU tensors with memory of their own, and which names stand for which of them."""
    stored: dict[str, Tensor] = {}
    repeats: dict[str, str] = {}
    names: dict[tuple[object, ...], str] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        identity = (
            tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride()
        )  # fmt: skip
        first = names.setdefault(identity, name) if tensor.numel() else name
        if first != name:
            repeats[name] = first
            continue
        own = tensor.detach().cpu().contiguous()
        stored[name] = own.clone() if own.untyped_storage().data_ptr() in taken else own
        taken.add(memory)
    return stored, repeats
