"""The layer that replaces a region, what it is called between, and a check of it on an example."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn import functional as F

from ...reparam import ConvMap, MapError, split_padding, to_conv, to_linear
from ..affine.value import View
from ..affine.views import Features, evaluate
from ..graph.example import Inputs, difference, run
from ..graph.run import GraphRun
from .region import Candidate


@dataclass(frozen=True)
class Replacement:
    """A layer with the order of axes that it wants and gives, and padding that it lacks.

    Attributes:
        layer: A convolution, or a linear layer where the source has its channels on the last axis.
        order_before: The permutation of the source's axes, or None.
        padding: Arguments of `torch.nn.functional.pad` after that, or None.
        order_after: The permutation of the layer's result, or None.
    """

    layer: nn.Module
    order_before: tuple[int, ...] | None = None
    padding: tuple[tuple[int, ...], str] | None = None
    order_after: tuple[int, ...] | None = None

    def __call__(self, value: Tensor) -> Tensor:
        """What the region computes from its source's value."""
        value = value if self.order_before is None else value.permute(self.order_before)
        value = value if self.padding is None else F.pad(value, *self.padding)
        result: Tensor = self.layer(value)
        return result if self.order_after is None else result.permute(self.order_after)

    def insert(self, graph_module: GraphModule, name: str, source: Node) -> Node:
        """Call the layer, which is in `graph_module` as `name`, at the current insertion point."""
        graph = graph_module.graph
        if self.order_before is not None:
            source = graph.call_method("permute", (source, self.order_before))
        if self.padding is not None:
            source = graph.call_function(F.pad, (source, *self.padding))
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
        return Replacement(layer, order_after=_moved(axes, axes - 1, view.channel_axis))
    sides, conv_map = split_padding(view.map)
    layer = to_conv(conv_map, like=like, requires_grad=requires_grad)
    order_before, order_after = _moved(axes, taken, 1), _moved(axes, 1, view.channel_axis)
    return Replacement(layer, order_before, _pad_arguments(sides, conv_map), order_after)


def _pad_arguments(
    sides: tuple[tuple[int, int], ...] | None, conv_map: ConvMap
) -> tuple[tuple[int, ...], str] | None:
    if sides is None:
        return None
    mode = "constant" if conv_map.padding_mode == "zeros" else conv_map.padding_mode
    return tuple(amount for pair in reversed(sides) for amount in pair), mode


def _moved(axes: int, from_axis: int, to_axis: int) -> tuple[int, ...] | None:
    """The permutation that moves one axis, or None if it stays."""
    if from_axis == to_axis:
        return None
    order = [axis for axis in range(axes) if axis != from_axis]
    order.insert(to_axis, from_axis)
    return tuple(order)


def verify_regions(
    features: Features, candidates: Sequence[Candidate], inputs: Inputs
) -> dict[Candidate, Replacement | str]:
    """The layer that replaces each candidate, or how its output would have differed.

    The graph runs once. Each layer reads the same tensor at the same moment as it will in the
    rewritten graph, so a source that an in-place operator overwrites too early also is noticed.

    Args:
        features: The owner of the candidates; not changed.
        candidates: Regions without a reason against them.
        inputs: The example.
    """
    verifier = _Verifier(features, candidates)
    run(verifier.run, inputs)
    return verifier.verdicts


class _Verifier(GraphRun):
    def __init__(self, features: Features, candidates: Sequence[Candidate]) -> None:
        super().__init__(features.graph_module)
        self.verdicts: dict[Candidate, Replacement | str] = {}
        self._features = features
        self._by_root = {candidate.root: candidate for candidate in candidates}
        self._readers = Counter(candidate.source.node for candidate in candidates)
        self._source_values: dict[Node, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n in self._readers:
            # The interpreter frees a value after its last use, which may come before the root.
            self._source_values[n] = result
        if n in self._by_root:
            candidate = self._by_root[n]
            self.verdicts[candidate] = self._verdict(candidate, result)
            self._release(candidate.source.node)
        return result

    def _verdict(self, candidate: Candidate, expected: Tensor) -> Replacement | str:
        read = (attrgetter(name)(self._features.graph_module) for name in candidate.targets)
        is_trained = any(map(_is_trained, read))
        try:
            view = evaluate(self._features, candidate.source, candidate.interior)
            replacement = replacement_of(candidate, view, requires_grad=is_trained)
        except MapError as error:
            return str(error)
        departure = difference(expected, replacement(self._source_values[candidate.source.node]))
        return replacement if departure is None else f"on the example, its {departure}"

    def _release(self, source: Node) -> None:
        self._readers[source] -= 1
        if not self._readers[source]:
            del self._source_values[source]


def _is_trained(target: Tensor | nn.Module) -> bool:
    parameters = [target] if isinstance(target, Tensor) else target.parameters()
    return any(parameter.requires_grad for parameter in parameters)
