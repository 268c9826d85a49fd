"""A part of a graph that one convolution can replace, or why it cannot, and what that is called."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, takewhile

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ..affine.value import Source
from ..graph.module_names import ReadNames, is_free


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


def preferred_name(candidate: Candidate) -> str:
    """The layer's own name where one replaces one, else that of the sum of branches."""
    return _own_name(candidate) or next(_sum_names(candidate))


class RegionNames:
    """Hands out names that collide with nothing which stays in the model.

    Args:
        graph_module: The model before any region is replaced.
        merged: All regions that will be replaced.
    """

    def __init__(self, graph_module: GraphModule, merged: Iterable[Candidate]) -> None:
        self._graph_module = graph_module
        self._named: dict[tuple[str, ...], list[tuple[str, nn.Module]]] = {}
        self._given: list[str] = []
        replaced = _replaced_nodes(graph_module, list(merged))
        self._read = ReadNames(
            graph_module, (n for n in graph_module.graph.nodes if n not in replaced)
        )

    def name(self, candidate: Candidate, layer: nn.Module) -> tuple[str, bool]:
        """A name for `layer`, and whether it is new.

        Calls of a shared module give equal convolutions, which then are shared as well.
        """
        twins = self._named.setdefault(candidate.targets, [])
        for name, twin in twins:
            if _is_equal(layer, twin):
                return name, False
        name = _own_name(candidate)
        if not name or not self._is_unused(name):
            name = next(name for name in _sum_names(candidate) if self._is_free(name))
        self._given.append(name)
        twins.append((name, layer))
        return name, True

    def _is_free(self, name: str) -> bool:
        return self._is_unused(name) and is_free(self._graph_module, name)

    def _is_unused(self, name: str) -> bool:
        # A layer that has got its name holds no other, and is held by no other.
        return not self._read.holds(name) and not any(
            f"{given}.".startswith(f"{name}.") or name.startswith(f"{given}.")
            for given in self._given
        )


def _replaced_nodes(graph_module: GraphModule, merged: Collection[Candidate]) -> set[Node]:
    """The nodes of the regions, and those that only they read and their layers do not."""
    replaced = {node for candidate in merged for node in candidate.interior}
    sources = {candidate.source.node for candidate in merged}
    for node in reversed(graph_module.graph.nodes):
        if node.users and node not in sources and replaced.issuperset(node.users):
            replaced.add(node)
    return replaced


def _own_name(candidate: Candidate) -> str:
    """The name of the only layer in a region without branches; empty if there is none."""
    if not len(candidate.weights) == candidate.branches == 1:
        return ""
    (node,) = candidate.weights
    if node.op == "call_module":
        return str(node.target)
    # A forward of its own, perhaps of a subclass of a layer, that computes with its weight.
    owners = [target.rpartition(".") for target in candidate.targets]
    named = [owner for owner, _, tensor in owners if tensor == "weight"]
    return named[0] if named else ""


def _sum_names(candidate: Candidate) -> Iterator[str]:
    """Names in the module that holds all branches, and where none is free in those around it."""
    owners = [target.split(".")[:-1] for target in candidate.targets]
    shared = takewhile(lambda entries: len(set(entries)) == 1, zip(*owners, strict=False))
    owner = [entries[0] for entries in shared]
    # A layer that stays in use can own no other.
    for index in count():
        name = f"reparam_conv_{index}" if index else "reparam_conv"
        yield from (".".join([*owner[:depth], name]) for depth in range(len(owner), -1, -1))


def _is_equal(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return (
        repr(first) == repr(second)
        and ours.keys() == theirs.keys()
        and all(torch.equal(ours[key], theirs[key]) for key in ours)
    )
