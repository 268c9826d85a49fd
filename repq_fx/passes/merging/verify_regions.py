"""Compute the convolution of each region and check it against the region on an example."""

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from torch import Tensor, nn
from torch.fx import Node

from ...reparam import MapError
from ..affine.views import Features, evaluate
from ..graph.agreement import difference
from ..graph.example import Inputs, run
from ..graph.run import GraphRun
from .region import Candidate
from .replacement import Replacement, replacement_of


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
