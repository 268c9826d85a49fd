"""Checks of sizes that layers make anyway, which the graph need not."""

import operator
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.fx import GraphModule, Node
from torch.nn import functional as F

from ...graph.questions import ancestors
from .guards import EXAMPLE_SHAPE, is_arithmetic, is_size_guard

Layers = Mapping[Node, nn.Module]

_AXES_AFTER_CHANNELS: Mapping[Any, int] = {
    nn.Linear.forward: 0,
    nn.Conv1d.forward: 1,
    nn.Conv2d.forward: 2,
    nn.Conv3d.forward: 3,
    nn.ConvTranspose1d.forward: 1,
    nn.ConvTranspose2d.forward: 2,
    nn.ConvTranspose3d.forward: 3,
}
"""By their forward, so that a subclass with one of its own is none of them."""
_NORMS_OF_SECOND_AXIS = frozenset({nn.BatchNorm2d.forward, nn.GroupNorm.forward})
_ENTRYWISE = frozenset(
    (*(kind.forward for kind in (
        nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.SiLU, nn.Mish, nn.GELU,
        nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Dropout)),
     F.relu, F.relu6, F.leaky_relu, F.silu, F.mish, F.gelu, F.hardswish, F.hardsigmoid, F.dropout,
     "relu", "relu_", "sigmoid", "tanh", "contiguous")
)  # fmt: skip


def drop_certain_guards(graph_module: GraphModule) -> None:
    """Erase the checks of sizes that the weights of a layer fix.

    A convolution, a linear layer and a norm return one number of channels and take one. Code that
    compares that with what it expects would cost a check in every block.
    """
    graph = graph_module.graph
    guards = [node for node in graph.nodes if is_size_guard(node)]
    if not guards:
        return
    # A layer whose result nobody reads may be erased, and then takes anything.
    live = set(ancestors(graph.output_node(), through_questions=True))
    calls = [node for node in live if node.op == "call_module"]
    layers = {node: graph_module.get_submodule(str(node.target)) for node in calls}
    numbers: set[Node] = set()
    for guard in guards:
        number = guard.args[1]
        if isinstance(number, Node) and _is_certain(number, layers):
            numbers.update(ancestors(number, through_questions=False))
            graph.erase_node(guard)
    for node in reversed(graph.nodes):
        if node in numbers and not node.users:
            graph.erase_node(node)
    if numbers:
        graph_module.recompile()


def _is_certain(value: Any, layers: Layers) -> bool:
    """Whether a number is computed from nothing but constants and sizes that weights fix."""
    if not isinstance(value, Node):
        return True
    read = _size_read(value)
    if read is not None:
        return _is_fixed(*read, layers)
    return is_arithmetic(value) and all(_is_certain(operand, layers) for operand in value.args)


def _size_read(number: Node) -> tuple[Node, int] | None:
    """The tensor and the axis that a number is the size of."""
    if len(number.args) != 2:
        return None
    tensor, axis = number.args
    if number.target is operator.getitem and isinstance(tensor, Node):
        is_shape = (tensor.target, tensor.args[1:]) in ((getattr, ("shape",)), ("size", ()))
        tensor = tensor.args[0] if is_shape and tensor.args else None
    elif (number.op, number.target) != ("call_method", "size"):
        return None
    if isinstance(tensor, Node) and isinstance(axis, int) and EXAMPLE_SHAPE in tensor.meta:
        return tensor, axis
    return None


def _is_fixed(tensor: Node, axis: int, layers: Layers) -> bool:
    rank = len(tensor.meta[EXAMPLE_SHAPE])
    axis %= rank
    readers = [user for user in tensor.users if user.args[:1] == (tensor,)]
    near = [layers[node] for node in (tensor, *readers) if node in layers]
    if any(axis in _fixed_axes(layer, rank) for layer in near):
        return True
    operand = tensor.args[0] if tensor.args else None
    step = _forward_of(layers[tensor]) if tensor in layers else tensor.target
    if step not in _ENTRYWISE or not isinstance(operand, Node):
        return False
    return EXAMPLE_SHAPE in operand.meta and _is_fixed(operand, axis, layers)


def _fixed_axes(layer: nn.Module, rank: int) -> range:
    """The axes of which a layer with weights takes, and returns, one size."""
    forward = _forward_of(layer)
    if forward in _AXES_AFTER_CHANNELS:
        axis = rank - 1 - _AXES_AFTER_CHANNELS[forward]
        return range(axis, axis + 1)
    if forward in _NORMS_OF_SECOND_AXIS and layer.state_dict():
        return range(1, 2)
    if forward is nn.LayerNorm.forward and isinstance(layer, nn.LayerNorm):
        return range(rank - len(layer.normalized_shape), rank)
    return range(0)


def _forward_of(layer: nn.Module) -> Any:
    """The function that a call runs, be it of the class or of the layer alone."""
    return getattr(layer.forward, "__func__", layer.forward)
