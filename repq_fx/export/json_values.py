"""Graph arguments and layer attributes as JSON, and back."""

from typing import Any

import torch
from torch.fx import Node

from ..errors import FileFormatError

# Types of torch whose instances are named constants of the torch module.
_TORCH_CONSTANTS = (torch.dtype, torch.memory_format, torch.layout)


def encode(value: Any) -> Any:
    """Plain data, nodes and torch constants as JSON; everything with a type is a one-key object.

    Raises:
        FileFormatError: `value` holds something else.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Node):
        return {"node": value.name}
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: encode(item) for key, item in value.items()}}
    if isinstance(value, slice):
        return {"slice": [encode(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, _TORCH_CONSTANTS):
        return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if value is Ellipsis:
        return {"ellipsis": None}
    raise FileFormatError(
        f"save: a {type(value).__name__} ({value!r}) cannot be stored in a model file."
    )


def decode(value: Any, nodes: dict[str, Node]) -> Any:
    """The inverse of `encode`; nodes are looked up by name in `nodes`.

    Raises:
        KeyError: A node is unknown.
        ValueError: The value is not one that `encode` writes.
    """
    if isinstance(value, list):
        return [decode(item, nodes) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise ValueError(f"malformed value {value!r}.")
    ((kind, content),) = value.items()
    if kind == "node":
        return nodes[content]
    if kind == "tuple":
        return tuple(decode(item, nodes) for item in content)
    if kind == "dict":
        return {key: decode(item, nodes) for key, item in content.items()}
    if kind == "slice":
        return slice(*(decode(part, nodes) for part in content))
    if kind == "torch":
        constant = getattr(torch, content)
        if isinstance(constant, _TORCH_CONSTANTS):
            return constant
    if kind == "device":
        return torch.device(content)
    if kind == "ellipsis":
        return Ellipsis
    raise ValueError(f"malformed value {value!r}.")
