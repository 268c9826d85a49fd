"""Lowering of a reference graph to integer programs."""

import logging

import torch
from torch.fx import GraphModule, Node

from ...ops import has_extension
from ...passes.graph.canonical_calls import canonicalize_calls
from ..reference_view import ReferenceView, is_dequantize, is_quantize, levels_of
from .instructions import Dequantize, Epilogue, Quantize
from .programs import InstructionNames, group_into_programs
from .rule import Match, Moved, Source
from .rules.images import match_image_operation
from .rules.layers import match_layer, match_rounded_layer
from .rules.movement import match_movement, read_sizes_of_levels
from .rules.pointwise import match_combination, match_function

_LOGGER = logging.getLogger(__name__)

# In order: what follows a layer may be a function of one tensor, so layers come first.
_RULES = (
    match_rounded_layer, match_function, match_combination, match_image_operation, match_movement,
)  # fmt: skip


def lower_to_int8(reference: GraphModule) -> GraphModule:
    """Replace quantize, float operations and dequantize by integer instructions, in place.

    Whatever stands between the levels that an operation reads and those that it gives becomes one
    instruction, by the rules in this folder. What no rule knows stays a float operation between a
    dequantize and a quantize instruction. Instructions without a float operation in between form
    one program, which runs in one call. What only moves numbers that stand for levels, and has no
    instruction, moves the levels.

    Returns:
        A graph module of `Int8Program` modules and the float operations that are left.
    """
    if not has_extension():
        _LOGGER.warning("the compiled kernels were not built: instructions run in PyTorch, slowly")
    canonicalize_calls(reference)
    view, names = ReferenceView(reference), InstructionNames(reference)
    for node in list(reference.graph.nodes):
        if is_quantize(node):
            _replace(names, node, _match_quantize(view, node))
    reference.graph.eliminate_dead_code()
    for node in list(reference.graph.nodes):
        match = match_layer(view, node, Epilogue())
        if match is not None:
            _replace(names, node, match)
    read_sizes_of_levels(reference)
    reference.graph.eliminate_dead_code()
    for node in list(reference.graph.nodes):
        if is_dequantize(node):
            match = Match(Dequantize(view.grid(node)), (levels_of(node),), node.name)
            _replace(names, node, match)
    reference.graph.eliminate_dead_code()
    _allow_any_strides(reference)
    return group_into_programs(reference).eval()


def _allow_any_strides(reference: GraphModule) -> None:
    """Let no float operation fail because an instruction's output has the channels last.

    A view that no longer exists without a copy becomes one; ``view(dtype)`` is another method.
    """
    for node in reference.graph.nodes:
        changes_type = any(isinstance(value, torch.dtype) for value in node.args)
        if node.op == "call_method" and node.target == "view" and not changes_type:
            node.target = "reshape"


def _match_quantize(view: ReferenceView, node: Node) -> Source:
    for rule in _RULES:
        match = rule(view, node)
        if match is not None:
            return match
    return Match(Quantize(view.grid(node)), (node.all_input_nodes[0],), node.name)


def _replace(names: InstructionNames, node: Node, match: Source) -> None:
    with node.graph.inserting_before(node):
        node.replace_all_uses_with(_insert(names, node, match))
    node.graph.erase_node(node)


def _insert(names: InstructionNames, before: Node, match: Source) -> Node:
    if isinstance(match, Node):
        return match
    if isinstance(match, Moved):
        moved = {node: _insert(names, before, each) for node, each in match.sources.items()}
        return before.graph.node_copy(match.node, lambda node: moved.get(node, node))
    inputs = tuple(_insert(names, before, each) for each in match.inputs)
    return before.graph.call_module(names.add(match), inputs)
