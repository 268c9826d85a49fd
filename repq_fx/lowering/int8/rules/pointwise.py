"""Operations on each element alone: functions of one tensor, sums and products of two."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from ....backend.patterns import DIFFERENCES, PRODUCTS, SINGLE_ELEMENT_FUNCTIONS, SUMS
from ....passes.gathering.elementwise_function import ElementwiseFunction, ScaledActivation
from ...reference_view import (
    ReferenceView,
    is_dequantize,
    is_read_once,
    levels_of,
    name_of,
    tensor_inputs,
)
from ..instructions import LEVELS, ChannelLookup, Combination, Combine, LevelGrid, Lookup
from ..rule import Match
from .activations import peel

_COMBINATIONS: dict[Any, Combination] = {
    **dict.fromkeys(SUMS, Combination.SUM),
    **dict.fromkeys(DIFFERENCES, Combination.DIFFERENCE),
    **dict.fromkeys(PRODUCTS, Combination.PRODUCT),
}


def match_function(view: ReferenceView, quantize: Node) -> Match | None:
    """A chain of functions of one element between two grids: a table of all levels."""
    chain: list[Node] = []
    node: Any = quantize.args[0]
    while not is_dequantize(node):
        if not isinstance(node, Node) or not _is_function(view, node):
            return None
        chain.append(node)
        node = node.all_input_nodes[0]
    if not chain:
        return None
    input_grid, output_grid = view.grid(node), view.grid(quantize)
    values = input_grid.dequantize(torch.arange(LEVELS))
    channels = {size for each in chain if (size := _channels(view, each)) is not None}
    if channels:
        values = values.reshape(-1, 1, 1, 1).expand(-1, max(channels), 1, 1)
    for function in reversed(chain):
        values = _apply(view, function, values)
    table = output_grid.quantize(values.detach())
    instruction = ChannelLookup(table.flatten(1).T.contiguous()) if channels else Lookup(table)
    return Match(instruction, (levels_of(node),), name_of(chain[0]))


def _channels(view: ReferenceView, node: Node) -> int | None:
    """Of a function that differs from channel to channel; None of any other."""
    module = view.module(node) if node.op == "call_module" else None
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        return module.num_parameters
    if isinstance(module, ElementwiseFunction):
        return module.channels
    return module.num_features if isinstance(module, nn.BatchNorm2d) else None


def match_combination(view: ReferenceView, quantize: Node) -> Match | None:
    """``quantize(activation(first op second))``."""
    value, follower = peel(view, quantize)
    combination = _COMBINATIONS.get(view.operation(value))
    operands = value.args
    if combination is None or value.kwargs or len(operands) != 2 or not is_read_once(value):
        return None
    if not all(is_dequantize(operand) for operand in operands):
        return None
    first, second = (operand for operand in operands if isinstance(operand, Node))
    grids = view.grid(first), view.grid(second)
    epilogue = follower.before(view.grid(quantize))
    instruction = Combine(combination, *grids, epilogue, follower.channel_shape)
    return Match(instruction, (levels_of(first), levels_of(second)), name_of(value))


def between_grids(match: "Match | Node", given: LevelGrid, wanted: LevelGrid) -> "Match | Node":
    """The levels of `wanted` for those of `given`."""
    if given == wanted:
        return match
    table = wanted.quantize(given.dequantize(torch.arange(LEVELS)))
    return Match(Lookup(table), (match,), f"{match.name}_regrid")


def _is_function(view: ReferenceView, node: Node) -> bool:
    inputs = tensor_inputs(node)
    module = view.module(node) if node.op == "call_module" else None
    if isinstance(module, nn.BatchNorm2d) and (module.training or module.running_mean is None):
        return False  # It depends on the other images of the batch.
    if isinstance(module, ScaledActivation) and module.channels is not None:
        return False  # The axis of its channels depends on the layer before.
    return (
        view.operation(node) in SINGLE_ELEMENT_FUNCTIONS
        and inputs is not None
        and len(inputs) == 1
        and list(node.args).count(inputs[0]) == 1
        and is_read_once(node)
    )


def _apply(view: ReferenceView, node: Node, values: Tensor) -> Tensor:
    arguments = [values if isinstance(each, Node) else each for each in node.args]
    called: Any = node.target
    if node.op == "call_module":
        called = view.module(node)
    elif node.op == "call_method":
        called = getattr(Tensor, str(node.target))
    result: Tensor = called(*arguments, **node.kwargs)
    return result
