"""Compute the convolution of each region and check it against the region on an example."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx, nn
from torch.fx import GraphModule, Node

from ..reparam import to_conv2d
from .affine_views import Shapes, evaluate
from .agreement import difference
from .example import run
from .region import Candidate


def verify_regions(
    graph_module: GraphModule,
    shapes: Shapes,
    candidates: Sequence[Candidate],
    inputs: tuple[Tensor, ...],
) -> dict[Candidate, nn.Conv2d | str]:
    """The convolution that replaces each candidate, or how its output would have differed.

    The graph runs once. Each convolution reads the same tensor at the same moment as it will in the
    rewritten graph, so a source that an in-place operator overwrites too early also is noticed.

    Args:
        graph_module: The owner of the candidates; not changed.
        shapes: From `feature_shapes`.
        candidates: Regions without a reason against them.
        inputs: The example.
    """
    verifier = _Verifier(graph_module, shapes, candidates)
    run(verifier.run, inputs)
    return verifier.verdicts


class _Verifier(fx.Interpreter):
    def __init__(
        self, graph_module: GraphModule, shapes: Shapes, candidates: Sequence[Candidate]
    ) -> None:
        super().__init__(graph_module)
        self.verdicts: dict[Candidate, nn.Conv2d | str] = {}
        self._graph_module = graph_module
        self._shapes = shapes
        self._by_root = {candidate.root: candidate for candidate in candidates}
        self._readers = Counter(candidate.source for candidate in candidates)
        self._source_values: dict[Node, Tensor] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n in self._readers:
            # The interpreter frees a value after its last use, which may come before the root.
            self._source_values[n] = result
        if n in self._by_root:
            candidate = self._by_root[n]
            self.verdicts[candidate] = self._verdict(candidate, result)
            self._release(candidate.source)
        return result

    def _verdict(self, candidate: Candidate, expected: Tensor) -> nn.Conv2d | str:
        conv_map = evaluate(self._graph_module, self._shapes, candidate.source, candidate.interior)
        weights = [conv.weight for conv in candidate.convs.values()]
        is_trained = any(weight.requires_grad for weight in weights)
        conv = to_conv2d(conv_map, like=weights[0], requires_grad=is_trained)
        departure = difference(expected, conv(self._source_values[candidate.source]))
        return conv if departure is None else f"on the example, its {departure}"

    def _release(self, source: Node) -> None:
        self._readers[source] -= 1
        if not self._readers[source]:
            del self._source_values[source]
