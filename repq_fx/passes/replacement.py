"""The layer that replaces a region, and how it is called between permutations of the axes."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ..reparam import to_conv, to_linear
from .affine_value import View
from .region import Candidate


@dataclass(frozen=True)
class Replacement:
    """A layer with the order of axes that it wants and gives.

    Attributes:
        layer: A convolution, or a linear layer where the source has its channels on the last axis.
        order_before: The permutation of the source's axes, or None.
        order_after: The permutation of the layer's result, or None.
    """

    layer: nn.Module
    order_before: tuple[int, ...] | None
    order_after: tuple[int, ...] | None

    def __call__(self, value: Tensor) -> Tensor:
        """What the region computes from its source's value."""
        value = value if self.order_before is None else value.permute(self.order_before)
        result: Tensor = self.layer(value)
        return result if self.order_after is None else result.permute(self.order_after)

    def insert(self, graph_module: GraphModule, name: str, source: Node) -> Node:
        """Call the layer, which is in `graph_module` as `name`, at the current insertion point."""
        graph = graph_module.graph
        if self.order_before is not None:
            source = graph.call_method("permute", (source, self.order_before))
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
        return Replacement(layer, None, _moved(axes, axes - 1, view.channel_axis))
    layer = to_conv(view.map, like=like, requires_grad=requires_grad)
    return Replacement(layer, _moved(axes, taken, 1), _moved(axes, 1, view.channel_axis))


def _moved(axes: int, from_axis: int, to_axis: int) -> tuple[int, ...] | None:
    """The permutation that moves one axis, or None if it stays."""
    if from_axis == to_axis:
        return None
    order = [axis for axis in range(axes) if axis != from_axis]
    order.insert(to_axis, from_axis)
    return tuple(order)
