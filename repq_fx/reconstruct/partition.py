"""Cutting a network into layers, blocks, stages, or not at all.

A block is the smallest part of the graph with one way in and one way out, such as a residual block,
a gate or a CSP stage of few layers; what lies in a plain chain is grouped by threes, where a
depthwise convolution does not count. A stage is a run of blocks at one resolution.
"""

import logging
from collections.abc import Iterator
from enum import Enum

from torch.fx import Node

from ..backend.prepared_view import PreparedView
from .layer_groups import LayerGroup, LayerGroups, ancestors
from .stored_tensors import StoredTensors
from .unit import Unit

_LOGGER = logging.getLogger(__name__)


class Partition(str, Enum):
    """What is reconstructed at one time."""

    LAYERS = "layers"
    BLOCKS = "blocks"
    STAGES = "stages"
    NET = "net"


def partition_network(
    view: PreparedView, stored: StoredTensors, partition: Partition
) -> list[Unit]:
    """Units in an order in which they can be run; every quantized layer is in one of them.

    Where values between two parts cannot be stored, as lists or transposed batches, the parts
    become one unit, and a warning names it.

    Args:
        view: Of a network as `refined_copy` makes it.
        stored: Which of its values can pass between units.
        partition: What a unit is.
    """
    groups = LayerGroups(view, stored)
    cut = {
        Partition.LAYERS: groups.layers,
        Partition.BLOCKS: groups.blocks,
        Partition.STAGES: groups.stages,
        Partition.NET: groups.network,
    }[partition]
    return _Isolation(view, stored, groups).isolated(cut())


class _Isolation:
    """Gives every node that layers need to a group, and cuts where values can be stored."""

    def __init__(self, view: PreparedView, stored: StoredTensors, groups: LayerGroups) -> None:
        self._stored = stored
        self._groups = groups
        self._nodes: list[Node] = list(view.graph_module.graph.nodes)
        self._layers = set(view.layers)

    def isolated(self, groups: list[LayerGroup]) -> list[Unit]:
        """One unit for each group, or for several where what passes between cannot be stored."""
        owner: dict[Node, int] = {}
        while True:
            owner = self._owners(groups)
            clash = next(self._unstored_layers(owner), None)
            if clash is None:
                break
            first, second = sorted(clash)
            merged = LayerGroup(
                groups[first].layers + groups[second].layers, groups[second].end, is_chain=False
            )
            _LOGGER.warning(
                "the parts that end with %r and %r cannot be isolated and are reconstructed as one",
                groups[first].end.name, groups[second].end.name,
            )  # fmt: skip
            groups = [*groups[:first], *groups[first + 1 : second], merged, *groups[second + 1 :]]
        stages = self._groups.stage_numbers(groups)
        owned = [self._with_recomputed(owner, index) for index in range(len(groups))]
        # What stands behind all units is a reader too.
        readers = [*owned, self._with_recomputed(owner, None)]
        read = {n for own in readers for node in own for n in node.all_input_nodes if n not in own}
        return [
            self._unit(group, own, {n for n in read if owner.get(n) == index}, stages[index])
            for index, (group, own) in enumerate(zip(groups, owned, strict=True))
        ]

    def _owners(self, groups: list[LayerGroup]) -> dict[Node, int]:
        """The first group that needs each node."""
        owner: dict[Node, int] = {}
        for index, group in enumerate(groups):
            for node in ancestors([group.end, *group.layers], until=set(owner)):
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

    def _unit(self, group: LayerGroup, own: set[Node], read: set[Node], stage: int) -> Unit:
        nodes = tuple(n for n in self._nodes if n in own)
        inputs = {n: None for node in nodes for n in node.all_input_nodes if n not in own}
        outputs = [n for n in nodes if self._stored.holds(n) and (n is group.end or n in read)]
        targets = [str(n.target) for n in group.layers]
        name = targets[0] if len(targets) == 1 else f"{targets[0]} .. {targets[-1]}"
        return Unit(
            name, nodes, tuple(n.name for n in inputs), tuple(n.name for n in outputs),
            tuple(dict.fromkeys(targets)), stage,
        )  # fmt: skip
