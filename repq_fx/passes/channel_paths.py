"""Where the output channels of a layer go, through steps that let a scale of each pass."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Size, Tensor, nn
from torch.fx import GraphModule, Node, map_arg

from .layer_channels import channel_axis, is_weighted

Target = type[nn.Module] | Callable[..., Any] | str
Shapes = Mapping[Node, Size]

# f(s x) = s f(x) for every s > 0, entry by entry. Absent on purpose: ReLU6 and Hardtanh clip at a
# fixed height, which a scale moves (relu6(s x) = s min(relu(x), 6 / s)), and SiLU, GELU and
# Hardswish bend at a fixed place.
_ENTRYWISE: frozenset[Target] = frozenset({
    nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_",
    nn.LeakyReLU, F.leaky_relu, nn.PReLU,
    nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout, "contiguous",
})  # fmt: skip
# The same, within each plane of an image. Averages pass a factor on too, but are left out: their
# ranges are smaller than those of the tensor they read, which is quantized as well, and factors
# that suit one of both cost MobileOne-S0 0.9 dB.
_PLANEWISE: frozenset[Target] = frozenset({
    nn.MaxPool2d, F.max_pool2d, nn.AdaptiveMaxPool2d, F.adaptive_max_pool2d,
    nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d,
    nn.Upsample, F.interpolate,
})  # fmt: skip
_RESHAPES: frozenset[Target] = frozenset(
    {nn.Flatten, torch.flatten, "flatten", torch.reshape, "reshape", "view"}
)
_SHAPE_METHODS = ("size", "dim", "numel")


@dataclass(frozen=True)
class ChannelPath:
    """A layer whose output only other layers read, channel by channel.

    Attributes:
        producer: Its qualified name.
        consumers: The layers that read it; input channel c of each is output channel c.
        steps: What each node in between calls: a type of module, a function or a method's name.
    """

    producer: str
    consumers: tuple[str, ...]
    steps: tuple[Target, ...]


def find_channel_paths(graph_module: GraphModule, shapes: Shapes) -> list[ChannelPath]:
    """All paths along which output channels can be scaled and the consumers scaled back.

    A layer that is called twice, shares a parameter or has hooks is on no path.

    Args:
        graph_module: The graph; not changed.
        shapes: What a `ShapeRecorder` noted.

    Returns:
        The paths in the order of their producers in the graph.
    """
    own = _layers_of_one_call(graph_module)
    found = (_Search(graph_module, shapes, own).path(n) for n in graph_module.graph.nodes)
    return [path for path in found if path is not None]


class _Search:
    """Follows the output of one layer after the other."""

    def __init__(self, graph_module: GraphModule, shapes: Shapes, own: frozenset[str]) -> None:
        self._graph_module = graph_module
        self._shapes = shapes
        self._own = own

    def path(self, start: Node) -> ChannelPath | None:
        if not self._is_own_layer(start) or start not in self._shapes:
            return None
        consumers: list[str] = []
        steps: list[Target] = []
        pending = [(start, self._layer_axis(start, start))]
        while pending:
            node, axis = pending.pop()
            for user in node.users:
                if _reads_shape(user):
                    continue
                if not _reads_only_first(user, node):
                    return None
                if self._is_own_layer(user):
                    if axis != self._layer_axis(user, node):
                        return None
                    consumers.append(str(user.target))
                    continue
                axis_after = self._axis_after(user, node, axis)
                if axis_after is None:
                    return None
                steps.append(self._called(user))
                pending.append((user, axis_after))
        return ChannelPath(str(start.target), tuple(consumers), tuple(steps)) if consumers else None

    def _is_own_layer(self, node: Node) -> bool:
        return node.op == "call_module" and node.target in self._own

    def _layer_axis(self, layer_node: Node, value: Node) -> int:
        layer: Any = self._graph_module.get_submodule(str(layer_node.target))
        return channel_axis(layer, len(self._shapes[value]))

    def _called(self, node: Node) -> Target:
        if node.op == "call_module":
            module = self._graph_module.get_submodule(str(node.target))
            # A hook may change what the module returns.
            return nn.Module if _has_hooks(module) else type(module)
        target: Target = node.target
        return target

    def _axis_after(self, node: Node, operand: Node, axis: int) -> int | None:
        """Where the channels of `operand` are in the result of a step, or None if it is no step."""
        before, after = self._shapes[operand], self._shapes.get(node)
        called = self._called(node)
        if node.op == "output" or after is None:
            return None
        is_plane_step = called in _PLANEWISE or (called is F.pad and _pads_planes_linearly(node))
        if called in _ENTRYWISE or (is_plane_step and len(before) == 4 and axis == 1):
            return axis
        if called in _RESHAPES:
            return _axis_with(after, size=before[axis], entries_before=math.prod(before[:axis]))
        return None


def _layers_of_one_call(graph_module: GraphModule) -> frozenset[str]:
    """Layers whose parameters nothing else in the model reads."""
    layers = {
        name
        for name, module in graph_module.named_modules(remove_duplicate=False)
        if is_weighted(module) and not _has_hooks(module)
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


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _reads_only_first(user: Node, operand: Node) -> bool:
    others: list[Node] = []
    map_arg((user.args[1:], user.kwargs), others.append)
    return bool(user.args) and user.args[0] is operand and operand not in others


def _reads_shape(node: Node) -> bool:
    if node.op == "call_method":
        return node.target in _SHAPE_METHODS
    return node.target is getattr and "shape" in node.args


def _pads_planes_linearly(node: Node) -> bool:
    """Whether a call of ``F.pad`` leaves the channels of an image alone and pads no constant."""
    given = dict(zip(("input", "pad", "mode", "value"), node.args, strict=False)) | node.kwargs
    pad = given.get("pad")
    is_zero = given.get("value") in (None, 0)
    return isinstance(pad, list | tuple) and len(pad) <= 4 and is_zero


def _axis_with(shape: Size, *, size: int, entries_before: int) -> int | None:
    """The axis of a reshaped tensor that still counts what an axis of `size` entries counted."""
    for axis, length in enumerate(shape):
        if length == size and math.prod(shape[:axis]) == entries_before:
            return axis
    return None
