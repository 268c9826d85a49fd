"""One walk through the network that quantizes each tensor given all that came before it.

Every node gets its value in the float network and in the network quantized so far. Ranges are
chosen from the tensors that really arrive, which clipping upstream has made smaller; weights are
rounded for the inputs that they really meet (GPTQ); each bias takes up the difference of the means
that is left (Nagel et al., arXiv 1906.04721, appendix D, in one sweep).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.node import map_aggregate

from ..backend.quantized_layer import is_quantized_layer, quantized_weight_of, weight_observer
from ..errors import CalibrationError
from ..passes.graph.run import GraphRun, own_containers
from ..quant import ActivationObserver, TensorHistogram
from .layer_rounding import quantize_layer
from .output_search import search_range


@dataclass(frozen=True)
class Pair:
    """The values of one node: in the float network, and in the network quantized so far."""

    exact: Any
    quantized: Any


@dataclass(frozen=True)
class ObserverRoles:
    """What the walk does at the observers of a network, which are named by their nodes.

    Attributes:
        read: Those that a quantized layer depends on; what the others see stays in float.
        own_range: Those that are not shared: a shared one covers also what comes later.
        of_inputs: Those of network inputs, which are the same in both networks, and of which
            `calibrate` has seen more.
    """

    read: frozenset[str]
    own_range: frozenset[str]
    of_inputs: frozenset[str]

    @staticmethod
    def of(prepared: GraphModule) -> "ObserverRoles":
        """The roles in a whole network."""
        called = [n for n in prepared.graph.nodes if n.op == "call_module"]
        calls = Counter(prepared.get_submodule(str(n.target)) for n in called)
        own = [n for n in called if calls[prepared.get_submodule(str(n.target))] == 1]
        of_inputs = [n for n in called if any(i.op == "placeholder" for i in n.all_input_nodes)]
        read = _read_by_weighted_layers(prepared)
        return ObserverRoles(*(frozenset(n.name for n in part) for part in (read, own, of_inputs)))


@torch.no_grad()
def quantize_sequentially(
    prepared: GraphModule,
    original: nn.Module,
    inputs: Sequence[Pair],
    roles: ObserverRoles,
    *,
    thorough: bool = False,
    watch: Callable[[Node], object] = lambda _: None,
) -> None:
    """Refine ranges, weights and biases of `prepared` as its observers ask for, in place.

    A weight that was rounded here is left on its layer as ``quantized_weight``.

    Args:
        prepared: A network, or a part of one, whose layers and observers are written to.
        original: Holds the same layers in float under the same names; it is not changed.
        inputs: One batch of calibration data for each placeholder. The tensors that the network
            holds at one time are held twice.
        roles: Of the observers of the whole network.
        thorough: Improve rounded weights by coordinate descent.
        watch: Called with every node before it is computed.
    """
    # Two tensors each, or an operation in place on one side would change the other.
    pairs = (Pair(value.exact.clone(), value.quantized.clone()) for value in inputs)
    walk = _Walk(prepared, original, roles, thorough=thorough, watch=watch)
    walk.run(*pairs)


class _Walk(GraphRun):
    def __init__(
        self,
        prepared: GraphModule,
        original: nn.Module,
        roles: ObserverRoles,
        *,
        thorough: bool,
        watch: Callable[[Node], object],
    ) -> None:
        super().__init__(prepared)
        self._thorough = thorough
        self._original = original
        self._roles = roles
        self._watch = watch
        self._node: Node

    def run_node(self, n: Node) -> Any:
        self._node = n
        self._watch(n)
        try:
            return super().run_node(n)
        except CalibrationError as error:
            is_observer = isinstance(self.submodules.get(n.target), ActivationObserver)
            place = str(n.args[0] if is_observer else n.target)
            raise CalibrationError(f"inside the model, at {place!r}, {error}") from error

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        # Two tensors here too; and what quantizing a layer writes must not reach the float network.
        exact = super().get_attr(target, args, kwargs)
        if isinstance(exact, Tensor):
            return Pair(exact.clone(), exact.clone())
        return Pair(exact, exact)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._on_both(target, args, kwargs)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        def method(subject: Any, *rest: Any, **named: Any) -> Any:
            return getattr(subject, target)(*rest, **named)

        return self._on_both(method, args, kwargs)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.fetch_attr(target)
        if isinstance(module, ActivationObserver):
            return self._observe(module, args[0])
        exact_args, exact_kwargs = _exact((args, kwargs))
        exact = self._original.get_submodule(target)(*exact_args, **exact_kwargs)
        args, kwargs = _quantized((args, kwargs))
        observer = weight_observer(module)
        # A layer that is called twice is quantized once, for its first call.
        if observer is not None and quantized_weight_of(module) is None:
            inputs = exact_args[0], args[0]
            output = quantize_layer(module, observer, *inputs, exact, thorough=self._thorough)
            return Pair(exact, output)
        return Pair(exact, module(*args, **kwargs))

    def _on_both(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Pair:
        exact_args, exact_kwargs = _exact((args, kwargs))
        args, kwargs = _quantized((args, kwargs))
        return Pair(function(*exact_args, **exact_kwargs), function(*args, **kwargs))

    def _observe(self, observer: ActivationObserver, value: Pair) -> Pair:
        name = self._node.name
        if name not in self._roles.read:
            return value
        if name in self._roles.own_range:
            if observer.sequential and name not in self._roles.of_inputs:
                observer.histogram = TensorHistogram()
                observer.count(value.quantized)
            readers = self._readers_of(self._node)
            if observer.searches_outputs and readers:
                observer.chosen = search_range(observer, readers, value.exact, value.quantized)
        # Kept: a histogram that was taken anew is not part of a `Refinement`.
        observer.chosen = observer.parameters_of_range()
        quantized = observer.fake_quantize(value.quantized, observer.chosen)
        return Pair(value.exact, quantized)

    def _readers_of(self, observed: Node) -> list[nn.Module]:
        """The float layers that read a tensor, and an identity for all that is no such layer."""
        layers = [
            self._original.get_submodule(str(n.target))
            for n in observed.users
            if n.op == "call_module"
        ]
        weighted = [layer for layer in layers if weight_observer(layer) is not None]
        is_used_elsewhere = len(weighted) < len(observed.users)
        return [*weighted, nn.Identity()] if weighted and is_used_elsewhere else weighted


def _exact(arguments: Any) -> Any:
    exact = map_aggregate(arguments, lambda a: a.exact if isinstance(a, Pair) else a)
    return own_containers(exact)


def _quantized(arguments: Any) -> Any:
    quantized = map_aggregate(arguments, lambda a: a.quantized if isinstance(a, Pair) else a)
    return own_containers(quantized)


def _read_by_weighted_layers(prepared: GraphModule) -> set[Node]:
    """Nodes that a quantized layer depends on; the rest of the network stays in float."""
    read: set[Node] = set()
    for node in reversed(prepared.graph.nodes):
        if node in read or is_quantized_layer(prepared, node):
            read.update(node.all_input_nodes)
    return read
