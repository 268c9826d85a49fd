"""The layer that replaces a region, and what it is called between."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn import functional as F

from ...reparam import ConvMap, split_padding, to_conv, to_linear
from ..affine.value import View
from .region import Candidate


@dataclass(frozen=True)
class Replacement:
    """A layer with the order of axes that it wants and gives, and padding that it lacks.

    Attributes:
        layer: A convolution, or a linear layer where the source has its channels on the last axis.
        order_before: The permutation of the source's axes, or None.
        padding: Arguments of `torch.nn.functional.pad` after that, or None.
        order_after: The permutation of the layer's result, or None.
    """

    layer: nn.Module
    order_before: tuple[int, ...] | None = None
    padding: tuple[tuple[int, ...], str] | None = None
    order_after: tuple[int, ...] | None = None

    def __call__(self, value: Tensor) -> Tensor:
        """What the region computes from its source's value."""
        value = value if self.order_before is None else value.permute(self.order_before)
        value = value if self.padding is None else F.pad(value, *self.padding)
        result: Tensor = self.layer(value)
        return result if self.order_after is None else result.permute(self.order_after)

    def insert(self, graph_module: GraphModule, name: str, source: Node) -> Node:
        """Call the layer, which is in `graph_module` as `name`, at the current insertion point."""
        graph = graph_module.graph
        if self.order_before is not None:
            source = graph.call_method("permute", (source, self.order_before))
        if self.padding is not None:
            source = graph.call_function(F.pad, (source, *self.padding))
        result = graph.call_module(name, (source,))
        if self.order_after is not None:
            result = graph.call_method("permute", (result, self.order_after))
        return result


def replacement_of(candidate: Candidate, view: View, *, requires_grad: bool) -> Replacement:
    """The layer that computes `view`, the value of the candidate's root.

    Raises:
        MapError: No layer of torch does.
    """
    like = next(iter(candidate.weights.values()))
    axes = view.map.spatial_dims + 2
    taken = candidate.source.channel_axis
    if taken == axes - 1 and view.map.is_pointwise and view.map.groups == 1:
        layer: nn.Module = to_linear(view.map, like=like, requires_grad=requires_grad)
        return Replacement(layer, order_after=_moved(axes, axes - 1, view.channel_axis))
    sides, conv_map = split_padding(view.map)
    layer = to_conv(conv_map, like=like, requires_grad=requires_grad)
    order_before, order_after = _moved(axes, taken, 1), _moved(axes, 1, view.channel_axis)
    return Replacement(layer, order_before, _pad_arguments(sides, conv_map), order_after)


def _pad_arguments(
    sides: tuple[tuple[int, int], ...] | None, conv_map: ConvMap
) -> tuple[tuple[int, ...], str] | None:
    if sides is None:
        return None
    mode = "constant" if conv_map.padding_mode == "zeros" else conv_map.padding_mode
    return tuple(amount for pair in reversed(sides) for amount in pair), mode


def _moved(axes: int, from_axis: int, to_axis: int) -> tuple[int, ...] | None:
    """The permutation that moves one axis, or None if it stays."""
    if from_axis == to_axis:
        return None
    order = [axis for axis in range(axes) if axis != from_axis]
    order.insert(to_axis, from_axis)
    return tuple(order)
