"""One spelling of every call, so that rules need not know which arguments came by keyword."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._jit_internal import boolean_dispatched
from torch._ops import OpOverload, OpOverloadPacket
from torch.fx import GraphModule, Node

_KEPT = "inplace"
"""What always is a keyword: it tells of a mutation, on whatever place the function has it."""
_BUILTINS = (torch, torch._C._nn)


@dataclass(frozen=True)
class _Parameters:
    """The parameters of a function: those that may be positional, the required, and all."""

    positional: tuple[str, ...]
    required: frozenset[str]
    known: frozenset[str]

    def bind(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The same arguments, as many of them positional as can be; None if they do not fit."""
        given = {**dict(zip(self.positional, args, strict=False)), **kwargs}
        if len(args) > len(self.positional) or len(given) != len(args) + len(kwargs):
            return None
        if not self.required <= given.keys() <= self.known:
            return None
        leading = takewhile(lambda name: name in given and name != _KEPT, self.positional)
        ordered = tuple(given.pop(name) for name in leading)
        return ordered, given


def canonicalize_calls(graph_module: GraphModule) -> None:
    """Give every argument the place that the signature has for it, in place.

    Arguments behind one that is left out stay keywords.
    """
    changed = False
    for node in graph_module.graph.nodes:
        is_call = node.op in ("call_module", "call_function", "call_method")
        # Positional arguments of a Python function may hold one that is to be a keyword.
        has_other_form = node.kwargs or (len(node.args) > 1 and type(node.target) is FunctionType)
        if not is_call or not has_other_form or "out" in node.kwargs:
            continue
        bound = (p.bind(node.args, node.kwargs) for p in _parameters_of(graph_module, node))
        form = next((form for form in bound if form is not None), None)
        if form is not None and form != (node.args, node.kwargs):
            node.args, node.kwargs = form
            changed = True
    if changed:
        graph_module.recompile()


def _parameters_of(graph_module: GraphModule, node: Node) -> list[_Parameters]:
    """Of each overload of what `node` calls; none where that is unknown."""
    if node.op == "call_module":
        return _of_signature(graph_module.get_submodule(str(node.target)).forward)
    target: Any = node.target
    if node.op == "call_method":
        target = getattr(Tensor, str(node.target), None)
    if isinstance(target, FunctionType):
        # Of two functions that an argument chooses between, the wrapper shows neither's signature.
        return _of_signature(boolean_dispatched.get(target, {}).get("if_false", target))
    if isinstance(target, OpOverload):
        return [_of_schema(target, "self")]
    name = getattr(target, "__name__", "")
    is_method = node.op == "call_method" and target is not None
    if not is_method and not any(getattr(home, name, None) is target for home in _BUILTINS):
        return []
    packet = getattr(torch.ops.aten, name, None)
    if not isinstance(packet, OpOverloadPacket):
        return []
    overloads = (getattr(packet, overload) for overload in packet.overloads())
    return [_of_schema(overload, "input") for overload in overloads]


def _of_signature(function: Any) -> list[_Parameters]:
    parameters = inspect.signature(function).parameters.values()
    kinds = {parameter.kind for parameter in parameters}
    if kinds.intersection({inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}):
        return []
    named = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    return [
        _Parameters(
            tuple(p.name for p in named),
            frozenset(p.name for p in parameters if p.default is p.empty),
            frozenset(p.name for p in parameters),
        )
    ]


def _of_schema(overload: OpOverload, own_name: str) -> _Parameters:
    """The parameters of an operator, of which Python calls the first tensor `own_name`."""
    arguments = overload._schema.arguments
    names = {id(a): own_name if a.name == "self" else a.name for a in arguments}
    return _Parameters(
        tuple(names[id(a)] for a in arguments if not a.kwarg_only),
        frozenset(names[id(a)] for a in arguments if not a.has_default_value()),
        frozenset(names.values()),
    )
