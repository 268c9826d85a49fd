"""Graph arguments and layer attributes as JSON, and back."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import torch
from torch.fx import Node

from ..errors import FileFormatError
from ..lowering.int8 import instructions as int8
from .checks import check_record, checked, shortened
from .targets import function_from_name, function_name, is_function

# Types of torch whose instances are named constants of the torch module.
_TORCH_CONSTANTS = (torch.dtype, torch.memory_format, torch.layout)
_CONSTANTS = {name: value for name, value in vars(torch).items() if type(value) in _TORCH_CONSTANTS}
_DEVICE = re.compile(r"[a-z]+(:[0-9]{1,3})?")
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
    if isinstance(value, dict) and all(_is_key(key) for key in value):  # JSON's are words alone.
        return {"items": [[key, encode(item)] for key, item in value.items()]}
    if isinstance(value, slice):
        return {"slice": [encode(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, _TORCH_CONSTANTS):
        return {"torch": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if value is Ellipsis:
        return {"ellipsis": None}
    raise FileFormatError(f"save: a {name} ({shortened(value)}) cannot be stored in a model file.")


def encode_attribute(value: Any) -> Any:
    """What a layer keeps as JSON: as `encode`, or a function, such as an activation.

    Raises:
        FileFormatError: `value` is something else.
    """
    return {"function": function_name(value)} if is_function(value) else encode(value)


def decode_argument(value: Any, nodes: Mapping[str, Node]) -> Any:
    """The inverse of `encode` for what is passed to a node; `nodes` are those before it by name.

    torch.fx writes the result into code by its `repr`, so it is of no other type than these.

    Raises:
        ValueError: The value is not one that `encode` writes.
    """

    def node(name: Any) -> Node:
        if not isinstance(name, str) or name not in nodes:
            raise ValueError(f"the node {shortened(name)} is used before it is defined.")
        return nodes[name]

    return _decode(value, {**_KINDS, "node": node})


def decode_attribute(value: Any) -> Any:
    """The inverse of `encode_attribute`: settings of our own, and functions, are allowed.

    Raises:
        ValueError: The value is not one that `encode` writes.
    """
    kinds = {"choice": _choice, "record": _record, "function": _function}
    return _decode(value, {**_KINDS, **kinds})


def _decode(value: Any, kinds: Mapping[str, Callable[[Any], Any]]) -> Any:
    if isinstance(value, list):
        return [_decode(item, kinds) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((kind, content),) = value.items()
        if kind == "tuple":
            return tuple(_decode(item, kinds) for item in checked(content, list, kind))
        if kind == "dict":
            return {k: _decode(item, kinds) for k, item in checked(content, dict, kind).items()}
        if kind == "items":
            return dict(_item(pair, kinds) for pair in checked(content, list, kind))
        if kind == "slice" and isinstance(content, list) and len(content) == 3:
            return slice(*(_decode(part, kinds) for part in content))
        if kind in kinds:
            return kinds[kind](content)
    raise ValueError(f"{shortened(value)} is no value that a model file may hold.")


def _item(pair: Any, kinds: Mapping[str, Callable[[Any], Any]]) -> tuple[Any, Any]:
    if isinstance(pair, list) and len(pair) == 2 and _is_key(pair[0]):
        return pair[0], _decode(pair[1], kinds)
    raise ValueError(f"{shortened(pair)} is no key with its value.")


def _is_key(key: Any) -> bool:
    return type(key) in (int, str)


def _constant(name: Any) -> Any:
    if checked(name, str, "torch") not in _CONSTANTS:
        raise ValueError(f"torch has no constant {shortened(name)}.")
    return _CONSTANTS[name]


def _function(name: Any) -> Callable[..., Any]:
    return function_from_name(checked(name, str, "function"))


def _device(name: Any) -> torch.device:
    if not _DEVICE.fullmatch(checked(name, str, "device")):
        raise ValueError(f"{shortened(name)} is no device.")
    return torch.device(name)


def _ellipsis(_: Any) -> Any:
    return Ellipsis


def _pair(content: Any, known: Mapping[str, Any]) -> tuple[str, Any]:
    if isinstance(content, list) and len(content) == 2 and isinstance(content[0], str):
        name, value = content
        if name in known:
            return name, value
    raise ValueError(f"{shortened(content)} is no setting that a layer may have.")


def _choice(content: Any) -> Enum:
    name, value = _pair(content, _CHOICES)
    return _CHOICES[name](value)


def _record(content: Any) -> Any:
    name, fields = _pair(content, _RECORDS)
    record = _RECORDS[name](**decode_attribute(fields))
    check_record(record)
    return record


_KINDS: dict[str, Callable[[Any], Any]] = {
    "torch": _constant,
    "device": _device,
    "ellipsis": _ellipsis,
}
