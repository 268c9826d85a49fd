"""Where the output channels of a layer go, through steps that let a scale of each pass."""

import math
import operator
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Size, Tensor, nn
from torch.fx import GraphModule, Node, map_arg

from .channel_steps import (
    AVERAGES,
    ENTRYWISE,
    PRODUCTS,
    RESHAPES,
    Target,
    bending_activation,
    called_by,
    has_hooks,
    passes_plane_scales,
)
from .layer_channels import channel_axis, is_weighted

Shapes = Mapping[Node, Size]

_SHAPE_METHODS = ("size", "dim", "numel")


@dataclass(frozen=True)
class ChannelPath:
    """A layer whose output only other layers read, channel by channel.

    Attributes:
        producer: Its qualified name.
        activation: The call of an activation function that bends, right behind the layer, if there
            is one: what it returns can be scaled, instead of what the layer returns.
        consumers: The layers that read it; input channel c of each is output channel c.
        steps: What each node in between calls, behind `activation`.
    """

    producer: str
    activation: Node | None
    consumers: tuple[str, ...]
    steps: tuple[Target, ...]


def find_channel_paths(
    graph_module: GraphModule, shapes: Shapes, kept: Collection[str] = ()
) -> list[ChannelPath]:
    """All paths along which channels can be scaled and the consumers scaled back.

    A layer that is called twice, shares a parameter or has hooks is on no path. Where two layers
    are multiplied with each other, the path is that of the first.

    Args:
        graph_module: The graph; not changed.
        shapes: What a `ShapeRecorder` noted.
        kept: Qualified names of activation functions behind which nothing can be scaled.

    Returns:
        The paths in the order of their producers in the graph.
    """
    own = _layers_of_one_call(graph_module)
    search = _Search(graph_module, shapes, own, kept)
    paths: list[ChannelPath] = []
    consumers: set[str] = set()
    for path in map(search.path, graph_module.graph.nodes):
        # Two paths that meet in a product would each take the other's factor for a gate of fixed
        # size, and only one factor can be taken back by who reads the product.
        if path is not None and consumers.isdisjoint(path.consumers):
            paths.append(path)
            consumers.update(path.consumers)
    return paths


@dataclass
class _Found:
    """What a search has met so far."""

    consumers: list[str]
    steps: list[Target]
    scaled: set[Node]
    gates: set[Node]
    reads_more_than_averages: bool = False


class _Search:
    """Follows the output of one layer after the other."""

    def __init__(
        self,
        graph_module: GraphModule,
        shapes: Shapes,
        own: frozenset[str],
        kept: Collection[str],
    ) -> None:
        self._graph_module = graph_module
        self._shapes = shapes
        self._own = own
        self._kept = kept

    def path(self, layer: Node) -> ChannelPath | None:
        if not self._is_own_layer(layer) or layer not in self._shapes:
            return None
        activation = self._activation_behind(layer)
        found = self._follow(activation or layer, self._layer_axis(layer, layer))
        if found is None:
            return None
        return ChannelPath(
            str(layer.target), activation, tuple(found.consumers), tuple(found.steps)
        )

    def _activation_behind(self, layer: Node) -> Node | None:
        readers = [user for user in layer.users if not _reads_shape(user)]
        if len(readers) != 1 or readers[0].target in self._kept:
            return None
        (node,) = readers
        is_bending = bending_activation(self._graph_module, node) is not None
        return node if is_bending and node in self._shapes and node.args == (layer,) else None

    def _follow(self, start: Node, axis: int) -> _Found | None:
        """All readers of a tensor whose channels lie on `axis`; None if one needs it unscaled."""
        found = _Found([], [], {start}, set())
        pending = [(start, axis, False)]
        while pending:
            node, axis, is_average = pending.pop()
            for user in node.users:
                if _reads_shape(user):
                    continue
                if self._is_own_layer(user) and _reads_only_first(user, node):
                    if axis != self._layer_axis(user, node):
                        return None
                    found.consumers.append(str(user.target))
                    found.reads_more_than_averages |= not is_average
                    continue
                axis_after = self._axis_after(user, node, axis, found.gates)
                if axis_after is None:
                    return None
                called = called_by(self._graph_module, user)
                found.steps.append(called)
                found.scaled.add(user)
                pending.append((user, axis_after, is_average or called in AVERAGES))
        # An average alone has a smaller range than what it is the average of, which is quantized as
        # well: factors that suit one of both cost MobileOne-S0 0.9 dB.
        is_path = found.reads_more_than_averages and not found.gates & found.scaled
        return found if is_path else None

    def _is_own_layer(self, node: Node) -> bool:
        return node.op == "call_module" and node.target in self._own

    def _layer_axis(self, layer_node: Node, value: Node) -> int:
        layer: Any = self._graph_module.get_submodule(str(layer_node.target))
        return channel_axis(layer, len(self._shapes[value]))

    def _axis_after(self, node: Node, operand: Node, axis: int, gates: set[Node]) -> int | None:
        """Where the channels of `operand` are in the result of a step, or None if it is no step."""
        before, after = self._shapes[operand], self._shapes.get(node)
        called = called_by(self._graph_module, node)
        if node.op == "output" or after is None:
            return None
        if called in PRODUCTS:
            gate = _factor_beside(node, operand)
            gates.update(gate)
            keeps_axis = len(after) == len(before) and after[axis] == before[axis]
            return axis if gate and keeps_axis else None
        if not _reads_only_first(node, operand):
            return None
        is_image = len(before) == 4 and axis == 1
        if called in ENTRYWISE or (is_image and passes_plane_scales(called, node)):
            return axis
        if called in RESHAPES:
            return _axis_with(after, size=before[axis], entries_before=math.prod(before[:axis]))
        return None


def _layers_of_one_call(graph_module: GraphModule) -> frozenset[str]:
    """Layers whose parameters nothing else in the model reads."""
    layers = {
        name
        for name, module in graph_module.named_modules(remove_duplicate=False)
        if is_weighted(module) and not has_hooks(module)
    }
    holders = Counter(
        tensor.untyped_storage().data_ptr()
        for _, module in graph_module.named_modules(remove_duplicate=False)
        for tensor in _own_tensors(module)
    )
    nodes = [n for n in graph_module.graph.nodes if n.op in ("call_module", "get_attr")]
    targets = Counter(str(node.target) for node in nodes)

    def is_own(name: str) -> bool:
        tensors = _own_tensors(graph_module.get_submodule(name))
        # A node may also read a parameter by its name, or call a module that contains the layer.
        overlapping = any(t.startswith(f"{name}.") or name.startswith(f"{t}.") for t in targets)
        is_alone = all(holders[tensor.untyped_storage().data_ptr()] == 1 for tensor in tensors)
        return targets[name] == 1 and not overlapping and is_alone

    return frozenset(filter(is_own, layers))


def _own_tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)


def _factor_beside(product: Node, operand: Node) -> tuple[Node, ...]:
    """The tensor that `operand` is multiplied by, unless the product is written over it."""
    others = tuple(value for value in product.all_input_nodes if value is not operand)
    is_over_other = product.target in (operator.imul, "mul_") and product.args[0] is not operand
    is_plain = len(product.args) == 2 and not product.kwargs and len(others) == 1
    return others if is_plain and not is_over_other else ()


def _reads_only_first(user: Node, operand: Node) -> bool:
    others: list[Node] = []
    map_arg((user.args[1:], user.kwargs), others.append)
    return bool(user.args) and user.args[0] is operand and operand not in others


def _reads_shape(node: Node) -> bool:
    if node.op == "call_method":
        return node.target in _SHAPE_METHODS
    return node.target is getattr and "shape" in node.args


def _axis_with(shape: Size, *, size: int, entries_before: int) -> int | None:
    """The axis of a reshaped tensor that still counts what an axis of `size` entries counted."""
    for axis, length in enumerate(shape):
        if length == size and math.prod(shape[:axis]) == entries_before:
            return axis
    return None
