"""Regions: parts of a graph that one convolution can replace, or why it cannot."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.fx import Node

from ..affine.value import Source


@dataclass(frozen=True)
class Region:
    """A linear part of a model that was merged into one convolution, or was refused.

    Attributes:
        name: Qualified name of the convolution that replaces the region.
        source: Name of the graph node that the region reads.
        root: Name of the graph node whose value the region computes.
        nodes: Names of all nodes of the region, in graph order, the root last.
        branches: Paths from the source to the root.
        convs: Convolutions and linear layers among the nodes.
        reason: Why the region was left as it was; None if it was merged.
        parameters_before: Parameters of the region in the given model.
        parameters_after: Parameters of the region in the result.
        multiply_adds_before: Multiplications of its layers on the example.
        multiply_adds_after: The same in the result.
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
    multiply_adds_before: int
    multiply_adds_after: int

    @property
    def merged(self) -> bool:
        """Whether one convolution replaces the region."""
        return self.reason is None


@dataclass(frozen=True)
class Cost:
    """What layers cost.

    Attributes:
        weights: Numbers in their kernels.
        multiply_adds: Multiplications on the example.
    """

    weights: int = 0
    multiply_adds: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """The cost of both."""
        return Cost(self.weights + other.weights, self.multiply_adds + other.multiply_adds)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A region while it is still part of a graph.

    Attributes:
        source: What the region reads.
        interior: The nodes of the region, in graph order, the root last.
        weights: The weights of those among them that are convolutions or linear layers.
        targets: Qualified names of the tensors that the region reads and of the modules that it
            calls, without modules that hold nothing.
        branches: Paths from the source to the root.
        before: The cost of its layers.
        after: The cost of the one layer that would replace it.
        reason: Why it must not be merged, or None.
    """

    source: Source
    interior: tuple[Node, ...]
    weights: Mapping[Node, Tensor]
    targets: tuple[str, ...]
    branches: int
    before: Cost
    after: Cost
    reason: str | None

    @property
    def root(self) -> Node:
        """The node whose value the region computes."""
        return self.interior[-1]

    @property
    def shares_steps(self) -> bool:
        """Whether its branches have more in common than the source and the root."""
        inside = set(self.interior)
        return any(len(inside.intersection(node.users)) > 1 for node in self.interior)
