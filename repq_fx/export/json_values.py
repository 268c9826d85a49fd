"""Graph arguments and layer attributes as JSON, and back."""

import dataclasses
from enum import Enum
from typing import Any

import torch
from torch.fx import Node

from ..backend import int8
from ..errors import FileFormatError

# Types of torch whose instances are named constants of the torch module.
_TORCH_CONSTANTS = (torch.dtype, torch.memory_format, torch.layout)
# The settings of our own that instructions have.
_CHOICES: dict[str, type[Enum]] = {
    each.__name__: each for each in (int8.Activation, int8.Combination)
}
_RECORDS: dict[str, Any] = {
    each.__name__: each
    for each in (int8.ConvolutionGeometry, int8.Epilogue, int8.LayerGrids, int8.LevelGrid)
}


def encode(value: Any) -> Any:
    """Plain data, nodes and torch constants as JSON; everything with a type is a one-key object.

    Raises:
        FileFormatError: `value` holds something else.
    """
    name = type(value).__name__
    if _CHOICES.get(name) is type(value):
        return {"choice": [name, value.value]}
    if _RECORDS.get(name) is type(value):
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return {"record": [name, encode(fields)]}
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
    raise FileFormatError(f"save: a {name} ({value!r}) cannot be stored in a model file.")


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
    if kind in ("choice", "record"):
        return _setting(kind, *content)
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


def _setting(kind: str, name: str, content: Any) -> Any:
    if kind == "choice":
        return _CHOICES[name](content)
    return _RECORDS[name](**decode(content, {}))
