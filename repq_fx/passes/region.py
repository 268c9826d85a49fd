"""Regions: parts of a graph that one convolution can replace, or why it cannot."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from torch.fx import Node


@dataclass(frozen=True)
class Region:
    """A linear part of a model that was merged into one convolution, or was refused.

    Attributes:
        name: Qualified name of the convolution that replaces the region.
        source: Name of the graph node that the region reads.
        root: Name of the graph node whose value the region computes.
        nodes: Names of all nodes of the region, in graph order, the root last.
        branches: Paths from the source to the root.
        convs: Convolutions among the nodes.
        reason: Why the region was left as it was; None if it was merged.
        parameters_before: Parameters of the region in the given model.
        parameters_after: Parameters of the region in the result.
    """

    name: str
    source: str
    root: str
    nodes: tuple[str, ...]
    branches: int
    convs: int
    reason: str | None
    parameters_before: int
    parameters_after: int

    @property
    def merged(self) -> bool:
        """Whether one convolution replaces the region."""
        return self.reason is None


@dataclass(frozen=True, eq=False)
class Candidate:
    """A region while it is still part of a graph.

    Attributes:
        source: The node that the region reads.
        interior: The nodes of the region, in graph order, the root last.
        convs: Those among them that call a convolution, with what they call.
        branches: Paths from the source to the root.
        reason: Why it must not be merged, or None.
    """

    source: Node
    interior: tuple[Node, ...]
    convs: Mapping[Node, nn.Conv2d]
    branches: int
    reason: str | None

    @property
    def root(self) -> Node:
        """The node whose value the region computes."""
        return self.interior[-1]
