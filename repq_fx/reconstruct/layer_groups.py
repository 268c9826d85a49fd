"""Layers that belong together: blocks, chains and stages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn
from torch.fx import Node

from ..backend.prepared_view import PreparedView
from .stored_tensors import StoredTensors

# BRECQ's rule for chains, and enough for a bottleneck with its shortcut or a small CSP block.
_CHAIN_LAYERS = 3
_REGION_LAYERS = 6


@dataclass
class LayerGroup:
    """Some layers and the value that they are for.

    Attributes:
        layers: Nodes of the layers.
        end: The node of that value.
        is_chain: Whether it may grow by the next layer of a chain.
    """

    layers: list[Node]
    end: Node
    is_chain: bool


class LayerGroups:
    """Finds groups of quantized layers, in the order of the network.

    Args:
        view: Of a network as `refined_copy` makes it.
        stored: Which of its values can pass between groups.
    """

    def __init__(self, view: PreparedView, stored: StoredTensors) -> None:
        self._view = view
        self._stored = stored
        self._nodes: list[Node] = list(view.graph_module.graph.nodes)
        self._place = {node: place for place, node in enumerate(self._nodes)}
        self._layers = list(view.layers)

    def layers(self) -> list[LayerGroup]:
        """Every layer on its own."""
        return [LayerGroup([n], self._end_of(n), is_chain=True) for n in self._layers]

    def network(self) -> list[LayerGroup]:
        """All layers at once."""
        last = self._end_of(self._layers[-1])
        return [LayerGroup(self._layers, last, is_chain=False)]

    def blocks(self) -> list[LayerGroup]:
        """Regions with one way in and one way out, and what lies between them in chains."""
        return self._chained(self._regions_and_layers())

    def stages(self) -> list[LayerGroup]:
        """Runs of blocks at one resolution."""
        groups = self.blocks()
        stages: dict[int, LayerGroup] = {}
        for group, stage in zip(groups, self.stage_numbers(groups), strict=True):
            before = stages[stage].layers if stage in stages else []
            stages[stage] = LayerGroup(before + group.layers, group.end, is_chain=False)
        return list(stages.values())

    def stage_numbers(self, groups: Sequence[LayerGroup]) -> list[int]:
        """The same number for groups that follow each other at one resolution."""
        stages: list[int] = []
        for index, group in enumerate(groups):
            follows = index > 0 and self._follows(groups[index - 1], group)
            stages.append(stages[-1] if follows else len(stages))
        return stages

    def _regions_and_layers(self) -> list[LayerGroup]:
        regions = []
        for start in self._nodes:
            if len(start.users) > 1:
                region = self._region_behind(start)
                if region is not None:
                    regions.append(region)
        regions.sort(key=lambda region: -len(region.layers))
        taken: set[Node] = set()
        groups = []
        for region in regions:
            if not taken.intersection(region.layers):
                taken.update(region.layers)
                groups.append(region)
        groups += [
            LayerGroup([n], self._end_of(n), is_chain=True) for n in self._layers if n not in taken
        ]
        return sorted(groups, key=lambda group: self._place[group.end])

    def _region_behind(self, start: Node) -> LayerGroup | None:
        """What lies between `start` and the first node where all its paths have met again."""
        inside: set[Node] = {start}
        pending = len(start.users)
        for node in self._nodes[self._place[start] + 1 :]:
            reads_inside = [n for n in node.all_input_nodes if n in inside]
            if not reads_inside:
                continue
            if node.op == "output" or not self._reads_only(node, inside):
                return None
            pending -= len(reads_inside)
            inside.add(node)
            if pending == 0:
                layers = [n for n in self._layers if n in inside and n is not start]
                fits = 0 < len(layers) <= _REGION_LAYERS
                return LayerGroup(layers, self._end_of(node), is_chain=False) if fits else None
            pending += len(node.users)
        return None

    def _reads_only(self, node: Node, inside: set[Node]) -> bool:
        return all(n in inside or n.op == "get_attr" for n in node.all_input_nodes)

    def _end_of(self, node: Node) -> Node:
        """The last of the nodes without layers that alone read `node`, such as its ReLU."""
        while len(node.users) == 1:
            user = next(iter(node.users))
            if (
                user.op == "output"
                or user in self._layers
                or self._view.observer(user) is not None
                or len(user.all_input_nodes) > 1
                or not self._stored.holds(user)
                or self._stored.resolution(user) != self._stored.resolution(node)
            ):
                break
            node = user
        return node

    def _chained(self, groups: list[LayerGroup]) -> list[LayerGroup]:
        chains: list[LayerGroup] = []
        for group in groups:
            last = chains[-1] if chains else None
            if (
                last is not None
                and last.is_chain
                and group.is_chain
                and self._follows(last, group)
                and sum(not self._is_depthwise(n) for n in last.layers) < _CHAIN_LAYERS
            ):
                last.layers += group.layers
                last.end = group.end
            else:
                chains.append(group)
        return chains

    def _follows(self, first: LayerGroup, second: LayerGroup) -> bool:
        """Whether `second` reads `first` alone and nothing else does, at one resolution."""
        if self._stored.resolution(first.end) != self._stored.resolution(second.end):
            return False
        between = ancestors([second.end], until={first.end})
        if any(node.op == "placeholder" for node in between):
            return False
        readers = set(first.end.users)
        earlier = {n for n in self._nodes if self._place[n] <= self._place[first.end]}
        reads_other = any(
            n in earlier and n is not first.end and n.op != "get_attr"
            for node in between
            if node is not first.end
            for n in node.all_input_nodes
        )
        return readers <= between and not reads_other

    def _is_depthwise(self, node: Node) -> bool:
        layer = self._view.module(node)
        return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1


def ancestors(ends: Iterable[Node], until: set[Node]) -> set[Node]:
    """`ends` and all that they depend on, up to the nodes of `until`, which are included."""
    found: set[Node] = set()
    pending = list(ends)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            if node not in until:
                pending += node.all_input_nodes
    return found
