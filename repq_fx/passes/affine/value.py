"""What the region finder knows about a node's value, and what a rule may ask about the node."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ...reparam import ConvMap, MapError, add
from ..graph.constants import Constants


@dataclass(frozen=True)
class Source:
    """A node whose value others depend on, and the axis that is taken for its channels."""

    node: Node
    channel_axis: int


@dataclass(frozen=True)
class View:
    """A value as a map of a source, and the axis of the value that holds the map's channels.

    The other axes are in the source's order, the batch first.
    """

    map: ConvMap
    channel_axis: int

    def then(self, change: Callable[[ConvMap], ConvMap]) -> "View":
        """The view after a change of the map alone."""
        return replace(self, map=change(self.map))


@dataclass(frozen=True)
class Frame:
    """A padded view that still has zeros on some sides, where its value at zero belongs.

    Attributes:
        view: What the value is when every side is written.
        sides: The (axis, first index, end) of the strips that are not written yet.
    """

    view: View
    sides: frozenset[tuple[int, int, int]]


@dataclass(frozen=True)
class AffineValue:
    """What is known about the value of one node.

    Attributes:
        views: For each source, the convolution that gives this value from the source's.
        refusals: For each source of which the value is affine but not one convolution, why.
        frames: For each source of which the value is a view but for its border, that.
        fill: The constant that the value repeats along some axes, if it is nothing else.
    """

    views: Mapping[Source, View] = field(default_factory=dict)
    refusals: Mapping[Source, str] = field(default_factory=dict)
    frames: Mapping[Source, Frame] = field(default_factory=dict)
    fill: Tensor | None = None

    def map(self, change: Callable[[Source, View], View]) -> "AffineValue":
        """The value after `change` of every view, which refuses one by a `MapError`."""
        views: dict[Source, View] = {}
        refusals = dict(self.refusals)
        for source, view in self.views.items():
            try:
                views[source] = change(source, view)
            except MapError as error:
                refusals[source] = str(error)
        return AffineValue(views, refusals)

    def plus(self, other: "AffineValue") -> "AffineValue":
        """The sum of two values, affine in what both are affine in."""
        views = {source: view for source, view in self.views.items() if source in other.views}
        total = AffineValue(views).map(lambda source, view: _sum(view, other.views[source]))
        refused = {**self.refusals, **other.refusals}
        known = {*other.views, *other.refusals}.intersection({*self.views, *self.refusals})
        reasons = {source: reason for source, reason in refused.items() if source in known}
        return AffineValue(total.views, {**total.refusals, **reasons})


def _sum(first: View, second: View) -> View:
    if first.channel_axis != second.channel_axis:
        raise MapError("its branches have their channels on different axes")
    return first.then(lambda known: add(known, second.map))


OPAQUE = AffineValue()
"""The value of a node that is affine in nothing but itself."""


@dataclass(frozen=True)
class Call:
    """One node, as its rule sees it.

    Attributes:
        node: The node.
        graph_module: Its owner, for modules.
        shapes: Shapes of all feature maps, which are floating-point tensors of 2 to 5 axes.
        values: What is known about earlier nodes.
        constants: The values that do not depend on inputs.
        device: Where maps are computed.
    """

    node: Node
    graph_module: GraphModule
    shapes: Mapping[Node, torch.Size]
    values: Mapping[Node, AffineValue]
    constants: Constants
    device: torch.device

    @property
    def module(self) -> Any:
        """The module that the node calls."""
        return self.graph_module.get_submodule(str(self.node.target))

    def arguments(self, *names: str) -> dict[str, Any]:
        """The arguments by name, where `names` are the first parameters of the operator."""
        bound = {**dict(zip(names, self.node.args, strict=False)), **self.node.kwargs}
        return {name: self._resolved(operand) for name, operand in bound.items()}

    def _resolved(self, operand: Any) -> Any:
        """An argument, or what is known of it where that is no tensor, such as a weight's size."""
        if not isinstance(operand, Node) or operand not in self.constants:
            return operand
        known = self.constants.known(operand)
        return operand if isinstance(known, Tensor) else known

    def value(self, operand: Any) -> AffineValue:
        """What is known about an argument; nothing if it is not a node."""
        return self.values.get(operand, OPAQUE) if isinstance(operand, Node) else OPAQUE

    def shape(self, operand: Any) -> torch.Size | None:
        """The shape of an argument that is a feature map."""
        return self.shapes.get(operand) if isinstance(operand, Node) else None

    def constant(self, operand: Any) -> Tensor | None:
        """The constant tensor that an argument is, or None."""
        return self.constants.value(operand)

    def is_tensor(self, operand: Node) -> bool:
        """Whether an operand is a feature map or a constant."""
        return operand in self.shapes or operand in self.constants

    def is_computed(self, operand: Any) -> bool:
        """Whether an argument is a value that is known only when the graph runs."""
        return isinstance(operand, Node) and operand not in self.constants


Rule = Callable[[Call], AffineValue]
"""A transfer function: the value of a node from what is known about its operands."""


def called_module(graph_module: GraphModule, node: Node) -> nn.Module | None:
    """The module that `node` calls, if it calls one that no hook changes."""
    if node.op != "call_module":
        return None
    module = graph_module.get_submodule(str(node.target))
    # Hooks also are how pruning and the older weight and spectral norms compute their weights.
    return None if module._forward_hooks or module._forward_pre_hooks else module
