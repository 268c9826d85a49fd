"""Choose which regions of a graph to merge, from its outputs backwards."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

from torch import Tensor, nn
from torch.fx import Node, map_arg

from ...reparam import ConvMap, split_padding
from ..affine.border_rules import BORDERS
from ..affine.concat_rules import CONCATENATIONS
from ..affine.layer_rules import (
    CONV_FUNCTIONS,
    CONV_MODULES,
    LINEAR,
    TRANSPOSED_CONV_FUNCTIONS,
    TRANSPOSED_CONV_MODULES,
)
from ..affine.layout_rules import LAYOUTS
from ..affine.value import AffineValue, Source, called_module
from ..affine.views import Features
from ..tracing.plain_layers import layer_type
from .region import Candidate, Cost

Failures = Mapping[tuple[Node, Source], str]

_TRANSPOSED = {*TRANSPOSED_CONV_MODULES, *TRANSPOSED_CONV_FUNCTIONS}
_LAYERS = {*CONV_MODULES, *CONV_FUNCTIONS, *LINEAR, *_TRANSPOSED}


def plan_regions(
    features: Features, values: Mapping[Node, AffineValue], failures: Failures
) -> list[Candidate]:
    """The regions that one convolution can replace, and those that were refused, in graph order.

    The largest region around a node wins: roots are tried from the outputs backwards, and the
    sources of a root from the farthest to the nearest. Accepted regions do not overlap. Nothing is
    changed.

    Args:
        features: The graph.
        values: From `affine_values`.
        failures: Roots and sources that an earlier plan accepted, and what was wrong with that.
    """
    return _Planner(features, values, failures).plan()


class _Planner:
    def __init__(
        self, features: Features, values: Mapping[Node, AffineValue], failures: Failures
    ) -> None:
        self._features = features
        self._values = values
        self._failures = failures
        self._options: dict[tuple[Node, Source], Candidate | None] = {}
        self._order = {node: i for i, node in enumerate(features.graph_module.graph.nodes)}

    def plan(self) -> list[Candidate]:
        planned: list[Candidate] = []
        claimed: set[Node] = set()
        reported: set[tuple[Node, str]] = set()
        for root in reversed(list(self._values)):
            candidate = None if root in claimed else self._best(root)
            if candidate is None:
                continue
            if candidate.reason is None:
                claimed.update(candidate.interior)
            elif (candidate.source.node, candidate.reason) in reported:
                continue  # a part of a refused region, refused for the same reason
            else:
                reported.add((candidate.source.node, candidate.reason))
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
        for source in self._sources(root):
            candidate = self._option(root, source)
            if candidate is not None:
                yield candidate

    def _sources(self, root: Node) -> list[Source]:
        value = self._values[root]
        sources = {source for source in (*value.views, *value.refusals) if source.node is not root}
        return sorted(sources, key=lambda s: (self._order[s.node], s.channel_axis))

    def _option(self, root: Node, source: Source) -> Candidate | None:
        """The region between two nodes, judged; None if there is nothing to merge in it."""
        if (root, source) not in self._options:
            candidate = self._candidate(root, source)
            # A concatenation alone joins layers that have nothing in common but their input.
            has_sum = root.target not in CONCATENATIONS or candidate.shares_steps
            has_structure = has_sum and (candidate.weights or candidate.branches > 1)
            is_trivial = self._is_one_layer(candidate) or not has_structure
            self._options[root, source] = None if is_trivial else self._judged(candidate)
        return self._options[root, source]

    def _candidate(self, root: Node, source: Source) -> Candidate:
        inside, reads = {root}, dict[Node, None]()
        pending = [root]
        while pending:
            for operand in pending.pop().all_input_nodes:
                if operand in self._features.constants:
                    reads |= dict.fromkeys(self._features.constants.reads(operand))
                elif operand not in self._features.shapes:
                    continue  # a size
                elif operand is not source.node and operand not in inside:
                    inside.add(operand)
                    pending.append(operand)
        interior = tuple(sorted(inside, key=self._order.__getitem__))
        weights = {node: weight for node in interior if (weight := self._weight(node)) is not None}
        cost = sum((self._cost(node, weight) for node, weight in weights.items()), Cost())
        targets = self._targets((*reads, *interior))
        paths = _count_paths(source.node, interior)
        return Candidate(source, interior, weights, targets, paths, cost, cost, None)

    def _targets(self, nodes: tuple[Node, ...]) -> tuple[str, ...]:
        graph_module = self._features.graph_module
        called = (node for node in nodes if node.op in ("get_attr", "call_module"))
        names = dict.fromkeys(str(node.target) for node in called)
        return tuple(name for name in names if _holds_tensors(attrgetter(name)(graph_module)))

    def _weight(self, node: Node) -> Tensor | None:
        if self._operator(node) not in _LAYERS:
            return None
        if node.op == "call_module":
            module: Any = self._features.graph_module.get_submodule(str(node.target))
            weight: Tensor = module.weight
            return weight
        operand = node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
        return self._features.constants.value(operand)

    def _operator(self, node: Node) -> object:
        """The type of the module that a node calls, or its function."""
        module = called_module(self._features.graph_module, node)
        return node.target if module is None else layer_type(module)

    def _cost(self, node: Node, weight: Tensor) -> Cost:
        # Each tap is multiplied once for each position, of the input where that is transposed. In
        # torch's layouts the first axis of the weight is the channel axis of that image.
        is_transposed = self._operator(node) in _TRANSPOSED
        image = node.all_input_nodes[0] if is_transposed else node
        positions = self._features.shapes[image].numel() // weight.shape[0]
        return Cost(weight.numel(), weight.numel() * positions)

    def _is_one_layer(self, candidate: Candidate) -> bool:
        """Whether the region is what would replace it: a layer, perhaps between permutations."""
        rest = [node for node in candidate.interior if node.target not in LAYOUTS]
        return len(rest) == 1 and rest[0] in candidate.weights and self._is_module(rest[0])

    def _is_module(self, node: Node) -> bool:
        """Whether a layer is a plain module; weights that are computed can be computed now."""
        module = called_module(self._features.graph_module, node)
        return module is not None and type(module) is layer_type(module)

    def _judged(self, candidate: Candidate) -> Candidate:
        """The candidate with its cost when merged, and why it must not be merged."""
        root, source = candidate.root, candidate.source
        value = self._values[root]
        reason = self._failures.get((root, source)) or value.refusals.get(source)
        if reason is None and not candidate.weights:
            reason = "it holds no convolution"
        if reason is not None:
            return replace(candidate, reason=reason)
        view = value.views[source].map
        image, channels = root, view.out_channels
        if view.transposed:
            image, channels = source.node, view.in_channels
        positions = self._features.shapes[image].numel() // channels
        after = Cost(view.kernel.numel(), view.kernel.numel() * positions)
        reason = self._objection(candidate, view, after)
        return replace(candidate, after=after, reason=reason)

    def _objection(self, candidate: Candidate, view: ConvMap, after: Cost) -> str | None:
        if view.spatial_dims + 2 != len(self._features.shapes[candidate.source.node]):
            return "its result has another number of axes than its source"
        for node in candidate.interior[:-1]:
            for user in node.users:
                if self._is_outside(user, candidate.interior):
                    return f"'{node.name}' is also used by '{user.name}', outside"
        apart = self._cost_apart(candidate)
        if after.weights > apart.weights:
            return f"one convolution would need {after.weights} weights instead of {apart.weights}"
        if after.multiply_adds > apart.multiply_adds:
            return (
                f"one convolution would multiply {after.multiply_adds} times instead of "
                f"{apart.multiply_adds}"
            )
        if split_padding(view)[0] is not None and self._only_pads(candidate):
            return "the padding that one convolution lacks would stay beside it"
        return None

    def _is_outside(self, user: Node, interior: tuple[Node, ...]) -> bool:
        """Whether what reads a value does so for something else than a region."""
        if user in self._features.constants:  # It only asks for the type of the value.
            return any(self._is_outside(reader, interior) for reader in user.users)
        return user not in interior

    def _cost_apart(self, candidate: Candidate) -> Cost:
        """The cost of the region's layers after the best merges within it, without the whole."""
        inside, claimed, total = set(candidate.interior), set[Node](), Cost()
        for node in reversed(candidate.interior):
            if node in claimed:
                continue
            part = next(self._accepted_parts(candidate, node, inside), None)
            if part is not None:
                claimed.update(part.interior)
                total += part.after
            elif node in candidate.weights:
                total += self._cost(node, candidate.weights[node])
        return total

    def _accepted_parts(
        self, candidate: Candidate, root: Node, inside: set[Node]
    ) -> Iterator[Candidate]:
        """Smaller regions in a candidate that can be merged, the farthest source first."""
        for source in self._sources(root):
            is_whole = root is candidate.root and source == candidate.source
            if source.node in inside or (source == candidate.source and not is_whole):
                part = self._option(root, source)
                if part is not None and part.reason is None and inside.issuperset(part.interior):
                    yield part

    def _only_pads(self, candidate: Candidate) -> bool:
        others = [node for node in candidate.interior if node not in candidate.weights]
        return len(candidate.weights) == 1 and all(self._operator(n) in BORDERS for n in others)


def _holds_tensors(target: Tensor | nn.Module) -> bool:
    return isinstance(target, Tensor) or bool(target.state_dict())


def _count_paths(source: Node, interior: tuple[Node, ...]) -> int:
    paths = {source: 1}
    for node in interior:
        operands: list[Node] = []
        map_arg((node.args, node.kwargs), operands.append)
        paths[node] = sum(paths.get(operand, 0) for operand in operands)
    return paths[interior[-1]]
