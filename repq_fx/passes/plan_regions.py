"""Choose which regions of a graph to merge, from its outputs backwards."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch.fx import GraphModule, Node

from ..reparam import ConvMap, MapError, conv2d_padding
from .affine_value import AffineValue, called_conv2d
from .affine_views import Shapes, affine_values
from .region import Candidate


def plan_regions(graph_module: GraphModule, shapes: Shapes) -> list[Candidate]:
    """The regions that one convolution can replace, and those that were refused, in graph order.

    The largest region around a node wins: roots are tried from the outputs backwards, and the
    sources of a root from the farthest to the nearest. Accepted regions do not overlap. Nothing is
    changed.
    """
    return _Planner(graph_module, affine_values(graph_module, shapes)).plan()


class _Planner:
    def __init__(self, graph_module: GraphModule, values: Mapping[Node, AffineValue]) -> None:
        self._graph_module = graph_module
        self._values = values
        self._order = {node: index for index, node in enumerate(graph_module.graph.nodes)}

    def plan(self) -> list[Candidate]:
        planned: list[Candidate] = []
        claimed: set[Node] = set()
        reported: set[tuple[Node, str]] = set()
        for root in reversed(self._graph_module.graph.nodes):
            candidate = None if root in claimed else self._best(root)
            if candidate is None:
                continue
            if candidate.reason is None:
                claimed.update(candidate.interior)
            elif (candidate.source, candidate.reason) in reported:
                continue  # a part of a refused region, refused for the same reason
            else:
                reported.add((candidate.source, candidate.reason))
            planned.append(candidate)
        return planned[::-1]

    def _best(self, root: Node) -> Candidate | None:
        """The first acceptable candidate, else the first refused one."""
        refused: Candidate | None = None
        for candidate in self._candidates(root):
            if candidate.reason is None:
                return candidate
            refused = refused or candidate
        return refused

    def _candidates(self, root: Node) -> Iterator[Candidate]:
        """All regions with this root, the farthest source first."""
        value = self._values[root]
        for source in sorted({*value.views, *value.refusals} - {root}, key=self._order.__getitem__):
            candidate = self._candidate(root, source)
            is_lone_conv = candidate.interior == tuple(candidate.convs)
            is_chain_without_conv = not candidate.convs and candidate.branches == 1
            if is_lone_conv or is_chain_without_conv:
                continue
            if source in value.refusals:
                yield replace(candidate, reason=value.refusals[source])
            else:
                yield replace(candidate, reason=self._objection(candidate, value.views[source]))

    def _candidate(self, root: Node, source: Node) -> Candidate:
        inside = {root}
        pending = [root]
        while pending:
            for operand in pending.pop().all_input_nodes:
                if operand is not source and operand.op != "get_attr" and operand not in inside:
                    inside.add(operand)
                    pending.append(operand)
        interior = tuple(sorted(inside, key=self._order.__getitem__))
        modules = ((node, called_conv2d(self._graph_module, node)) for node in interior)
        convs = {node: module for node, module in modules if module is not None}
        return Candidate(source, interior, convs, _count_paths(source, interior), None)

    def _objection(self, candidate: Candidate, view: ConvMap) -> str | None:
        """Why `candidate`, which computes `view`, must not be merged."""
        if not candidate.convs:
            return "it holds no convolution"
        for node in candidate.interior[:-1]:
            for user in node.users:
                if user not in candidate.interior:
                    return f"'{node.name}' is also used by '{user.name}', outside"
        try:
            conv2d_padding(view)
        except MapError as error:
            return str(error)
        return _growth(candidate, view)


def _growth(candidate: Candidate, view: ConvMap) -> str | None:
    # All nodes of a region have outputs of one size, so multiplications grow as weights do.
    before = sum(conv.weight.numel() for conv in set(candidate.convs.values()))
    after = view.kernel.numel()
    if after > before:
        return f"one convolution would need {after} weights instead of {before}"
    return None


def _count_paths(source: Node, interior: tuple[Node, ...]) -> int:
    paths = {source: 1}
    for node in interior:
        operands = [*node.args, *node.kwargs.values()]
        paths[node] = sum(paths.get(o, 0) for o in operands if isinstance(o, Node))
    return paths[interior[-1]]
