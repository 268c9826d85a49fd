"""Cutting a network into layers, blocks, stages, or not at all.

A block is the smallest part of the graph with one way in and one way out, such as a residual block,
a gate or a CSP stage of few layers; what lies in a plain chain is grouped by threes, where a
depthwise convolution does not count. A stage is a run of blocks at one resolution.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Size, Tensor, nn
from torch.fx import GraphModule, Node

from ..backend.sequential import is_quantized_layer
from ..passes.affine_views import ShapeRecorder
from ..quant import ActivationObserver
from .unit import Unit

_LOGGER = logging.getLogger(__name__)
# Of blocks; BRECQ's rule for chains, and enough for a bottleneck with its shortcut or a CSP block.
_CHAIN_LAYERS = 3
_REGION_LAYERS = 6


class Partition(str, Enum):
    """What is reconstructed at one time."""

    LAYERS = "layers"
    BLOCKS = "blocks"
    STAGES = "stages"
    NET = "net"


@dataclass
class _Group:
    """Layers that belong together, with the nodes that only they are read by.

    Attributes:
        layers: Nodes of the layers.
        end: The node whose value the group is for.
        is_chain: Whether it may grow by the next layer of a chain.
    """

    layers: list[Node]
    end: Node
    is_chain: bool


class StoredTensors:
    """Which values of a network can be stored, image by image.

    Args:
        network: The float network, which is run once, on a few images.
        inputs: One batch.
    """

    def __init__(self, network: GraphModule, inputs: Sequence[Tensor]) -> None:
        # A prime, which is rarely the length of another axis.
        few = [value[:7].clone() for value in inputs]
        self._batch = len(few[0])
        shapes: dict[Node, Size] = {}
        with torch.no_grad():
            ShapeRecorder(network, shapes).run(*few)
        self._shapes = {node.name: shape for node, shape in shapes.items()}

    def holds(self, node: Node) -> bool:
        """Whether the value is a tensor with one entry for each image."""
        shape = self._shapes.get(node.name, Size())
        return node.op != "get_attr" and len(shape) > 0 and shape[0] == self._batch

    def resolution(self, node: Node) -> tuple[int, ...]:
        """The axes behind the channels."""
        return tuple(self._shapes.get(node.name, Size())[2:])


def partition_network(
    network: GraphModule, stored: StoredTensors, partition: Partition
) -> list[Unit]:
    """Units in an order in which they can be run; every quantized layer is in one of them.

    Where values between two parts cannot be stored, as lists or transposed batches, the parts
    become one unit, and a warning names it.

    Args:
        network: A copy of a prepared graph as `refined_copy` makes it.
        stored: Which of its values can pass between units.
        partition: What a unit is.
    """
    return _Partitioner(network, stored).units(partition)


class _Partitioner:
    def __init__(self, network: GraphModule, stored: StoredTensors) -> None:
        self._network = network
        self._stored = stored
        self._nodes: list[Node] = list(network.graph.nodes)
        self._place = {node: place for place, node in enumerate(self._nodes)}
        self._layers = [n for n in self._nodes if is_quantized_layer(network, n)]

    def units(self, partition: Partition) -> list[Unit]:
        if not self._layers:
            return []
        if partition is Partition.NET:
            groups = [_Group(self._layers, self._end_of(self._layers[-1]), is_chain=False)]
        elif partition is Partition.LAYERS:
            groups = [_Group([n], self._end_of(n), is_chain=False) for n in self._layers]
        else:
            groups = self._chained(self._regions_and_layers())
            if partition is Partition.STAGES:
                groups = self._staged(groups)
        return self._isolated(groups)

    def _regions_and_layers(self) -> list[_Group]:
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
            _Group([n], self._end_of(n), is_chain=True) for n in self._layers if n not in taken
        ]
        return sorted(groups, key=lambda group: self._place[group.end])

    def _region_behind(self, start: Node) -> _Group | None:
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
                return _Group(layers, self._end_of(node), is_chain=False) if fits else None
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
                or self._observer(user) is not None
                or len(user.all_input_nodes) > 1
                or not self._stored.holds(user)
                or self._stored.resolution(user) != self._stored.resolution(node)
            ):
                break
            node = user
        return node

    def _chained(self, groups: list[_Group]) -> list[_Group]:
        chains: list[_Group] = []
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

    def _stages(self, groups: list[_Group]) -> list[int]:
        """The number of the stage of each group."""
        stages: list[int] = []
        for index, group in enumerate(groups):
            follows = index > 0 and self._follows(groups[index - 1], group)
            stages.append(stages[-1] if follows else len(stages))
        return stages

    def _staged(self, groups: list[_Group]) -> list[_Group]:
        stages: dict[int, _Group] = {}
        for group, stage in zip(groups, self._stages(groups), strict=True):
            before = stages[stage].layers if stage in stages else []
            stages[stage] = _Group(before + group.layers, group.end, is_chain=False)
        return list(stages.values())

    def _follows(self, first: _Group, second: _Group) -> bool:
        """Whether `second` reads `first` alone and nothing else does, at one resolution."""
        if self._stored.resolution(first.end) != self._stored.resolution(second.end):
            return False
        between = self._ancestors([second.end], until={first.end})
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

    def _ancestors(self, ends: Iterable[Node], until: set[Node]) -> set[Node]:
        found: set[Node] = set()
        pending = list(ends)
        while pending:
            node = pending.pop()
            if node not in found:
                found.add(node)
                if node not in until:
                    pending += node.all_input_nodes
        return found

    def _isolated(self, groups: list[_Group]) -> list[Unit]:
        """One unit for each group, or for several where what passes between cannot be stored."""
        owner: dict[Node, int] = {}
        while True:
            owner = self._owners(groups)
            clash = next(self._unstored_layers(owner), None)
            if clash is None:
                break
            first, second = sorted(clash)
            merged = _Group(
                groups[first].layers + groups[second].layers, groups[second].end, is_chain=False
            )
            _LOGGER.warning(
                "the parts that end with %r and %r cannot be isolated and are reconstructed as one",
                groups[first].end.name, groups[second].end.name,
            )  # fmt: skip
            groups = [*groups[:first], *groups[first + 1 : second], merged, *groups[second + 1 :]]
        stages = self._stages(groups)
        owned = [self._with_recomputed(owner, index) for index in range(len(groups))]
        # What stands behind all units is a reader too.
        readers = [*owned, self._with_recomputed(owner, None)]
        read = {n for own in readers for node in own for n in node.all_input_nodes if n not in own}
        return [
            self._unit(group, own, {n for n in read if owner.get(n) == index}, stages[index])
            for index, (group, own) in enumerate(zip(groups, owned, strict=True))
        ]

    def _owners(self, groups: list[_Group]) -> dict[Node, int]:
        """The first group that needs each node."""
        owner: dict[Node, int] = {}
        for index, group in enumerate(groups):
            for node in self._ancestors([group.end, *group.layers], until=set(owner)):
                owner.setdefault(node, index)
        return {n: index for n, index in owner.items() if n.op not in ("placeholder", "get_attr")}

    def _unstored_layers(self, owner: dict[Node, int]) -> Iterator[tuple[int, int]]:
        """Pairs of groups of which one would have to compute a layer of the other again."""
        for node, index in owner.items():
            for source in node.all_input_nodes:
                if owner.get(source, index) == index:
                    continue
                for needed in self._recomputed(source):
                    if needed in self._layers and owner[needed] != index:
                        yield index, owner[needed]

    def _recomputed(self, source: Node) -> set[Node]:
        """What a reader must compute itself to have `source`: nothing if it is stored."""
        found: set[Node] = set()
        pending = [source]
        while pending:
            node = pending.pop()
            if node in found or node.op == "placeholder" or self._stored.holds(node):
                continue
            found.add(node)
            pending += node.all_input_nodes
        return found

    def _with_recomputed(self, owner: dict[Node, int], index: int | None) -> set[Node]:
        """The nodes of one owner, None for nobody, and what they must compute again."""
        inputs = ("placeholder", "get_attr")
        own = {n for n in self._nodes if owner.get(n) == index and n.op not in inputs}
        for node in list(own):
            for source in node.all_input_nodes:
                if source not in own:
                    own |= self._recomputed(source)
        return own

    def _unit(self, group: _Group, own: set[Node], read: set[Node], stage: int) -> Unit:
        nodes = tuple(n for n in self._nodes if n in own)
        inputs = {n: None for node in nodes for n in node.all_input_nodes if n not in own}
        outputs = [n for n in nodes if self._stored.holds(n) and (n is group.end or n in read)]
        targets = [str(n.target) for n in group.layers]
        name = targets[0] if len(targets) == 1 else f"{targets[0]} .. {targets[-1]}"
        return Unit(
            name, nodes, tuple(n.name for n in inputs), tuple(n.name for n in outputs),
            tuple(dict.fromkeys(targets)), stage,
        )  # fmt: skip

    def _observer(self, node: Node) -> ActivationObserver | None:
        if node.op != "call_module":
            return None
        module = self._network.get_submodule(str(node.target))
        return module if isinstance(module, ActivationObserver) else None

    def _is_depthwise(self, node: Node) -> bool:
        layer = self._network.get_submodule(str(node.target))
        return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
