"""The nested structure that a model returns, apart from the tensors in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph
from torch.fx.node import base_types

from ...errors import TraceError


@dataclass(frozen=True)
class _Leaf:
    """The place of one tensor."""

    index: int


@dataclass(frozen=True)
class _Object:
    """An object of a class that a graph has to construct by a call."""

    factory: type
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None


def take_apart(value: Any, leaves: list[Any]) -> Any:
    """Append the tensors in `value` to `leaves` and return the structure around them.

    Raises:
        TraceError: `value` holds an object that is neither a container nor a constant.
    """
    if isinstance(value, Tensor | torch.SymInt):
        leaves.append(value)
        return _Leaf(len(leaves) - 1)
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        return _Object(type(value), (), take_apart(named, leaves))
    if isinstance(value, Mapping):
        entries = {key: take_apart(entry, leaves) for key, entry in value.items()}
        return entries if type(value) is dict else _Object(type(value), (entries,))
    if isinstance(value, tuple | list):
        parts = [take_apart(entry, leaves) for entry in value]
        if hasattr(value, "_fields"):
            return _Object(type(value), tuple(parts))
        return parts if isinstance(value, list) else tuple(parts)
    if value is None or isinstance(value, base_types):
        return value
    raise TraceError(f"the model returns a {type(value).__name__}, which a graph cannot build.")


def put_together(graph: Graph, structure: Any, leaves: Sequence[Any]) -> Any:
    """The value of `structure` with `leaves` in its places, as an argument of a node of `graph`.

    Objects other than tuples, lists and dictionaries become calls of their class.
    """
    if isinstance(structure, _Leaf):
        return leaves[structure.index]
    if isinstance(structure, _Object):
        args = put_together(graph, structure.args, leaves)
        kwargs = put_together(graph, structure.kwargs or {}, leaves)
        return graph.call_function(structure.factory, args, kwargs)
    if isinstance(structure, dict):
        return {key: put_together(graph, entry, leaves) for key, entry in structure.items()}
    if isinstance(structure, tuple | list):
        return type(structure)(put_together(graph, entry, leaves) for entry in structure)
    return structure
