"""Transfer functions of what brings a value to the type or the device of another one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from torch import Tensor
from torch.fx import Node

from ..tracing.plain_layers import layer_type
from .layer_rules import (
    CONV_FUNCTIONS,
    CONV_MODULES,
    LINEAR,
    TRANSPOSED_CONV_FUNCTIONS,
    TRANSPOSED_CONV_MODULES,
)
from .value import OPAQUE, AffineValue, Call, Rule, called_module

_INSIST = {
    *CONV_MODULES, *CONV_FUNCTIONS, *LINEAR, *TRANSPOSED_CONV_MODULES, *TRANSPOSED_CONV_FUNCTIONS,
}  # fmt: skip
"""What fails on an input that has not the type of its weights."""
_ASKED = ("dtype", "device")


def _converted(call: Call) -> AffineValue:
    """A conversion to what the value already is, whatever type the model is given.

    It is, where it and the value that it shall be like both come from layers or go into one. An
    image that is brought to the type of the weights may be of another type elsewhere, and so may
    be whatever is brought to a type that is written down.
    """
    operand, *likes = (*call.node.args, *call.node.kwargs.values())
    targets = [_asked(like) for like in likes]
    before, after = (call.constants.like(node) for node in (operand, call.node))
    if before is None or after is None or not _are_alike(before, after):
        return OPAQUE  # A table of integers may be given as a type, too.
    if not all(_has_type_of_layers(call, each) for each in (operand, *targets)):
        return OPAQUE
    value = call.value(operand)
    # A region may read nothing else than its source.
    read = [call.value(like).views for like in likes if call.shape(like) is not None]
    views = {s: view for s, view in value.views.items() if all(s in known for known in read)}
    return replace(value, views=views)


def _are_alike(before: Tensor, after: Tensor) -> bool:
    return (before.dtype, before.device) == (after.dtype, after.device)


def _asked(like: Any) -> Any:
    """The tensor whose type or device an argument is, or the argument."""
    is_question = isinstance(like, Node) and like.target is getattr and like.args[1] in _ASKED
    return like.args[0] if is_question else like


def _has_type_of_layers(call: Call, operand: Any) -> bool:
    """Whether a value is of the type of the model's layers, or no layer could read it."""
    pending, seen = [operand], set[Any]()
    while pending:
        node = pending.pop()
        if node in seen or (isinstance(node, Node) and _meets_layer(call, node)):
            continue
        seen.add(node)
        views = call.value(node).views
        # What is affine in something else has the type of its operands.
        if not any(source.node is not node for source in views):
            return False
        pending += [each for each in node.all_input_nodes if each in call.shapes]
    return True


def _meets_layer(call: Call, node: Node) -> bool:
    readers = (user for user in node.users if user.args and user.args[0] is node)
    return node.op == "get_attr" or any(_insists(call, each) for each in (node, *readers))


def _insists(call: Call, node: Node) -> bool:
    module = called_module(call.graph_module, node)
    return (node.target if module is None else layer_type(module)) in _INSIST


FUNCTION_RULES: Mapping[Callable[..., Any], Rule] = MappingProxyType({})
METHOD_RULES: Mapping[str, Rule] = MappingProxyType(dict.fromkeys(("to", "type_as"), _converted))
