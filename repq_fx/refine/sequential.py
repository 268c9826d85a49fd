"""One walk through the network that quantizes each tensor given all that came before it.

Every node gets its value in the float network and in the network quantized so far. Ranges are
chosen from the tensors that really arrive, which clipping upstream has made smaller; weights are
rounded for the inputs that they really meet (GPTQ); each bias takes up the difference of the means
that is left (Nagel et al., arXiv 1906.04721, appendix D, in one sweep).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.node import map_aggregate

from ..backend.prepared_view import PreparedView
from ..errors import CalibrationError
from ..passes.graph.run import GraphRun, own_containers
from ..quant import ActivationObserver, AffineParameters
from .layer_rounding import Arriving, quantize_layer
from .output_search import search_range
from .refinement import Refinement


@dataclass(frozen=True)
class Pair:
    """The values of one node: in the float network, and in the network quantized so far."""

    exact: Any
    quantized: Any


@dataclass(frozen=True)
class SequentialWalk:
    """Refines ranges, weights and biases as the plans of layers and tensors say.

    Attributes:
        view: Of the whole network.
        original: Holds the same layers in float under the same names; it is not changed.
        found: What is found is added. A layer of which it holds a weight is not rounded again, and
            a range that it holds is where a search begins.
        thorough: Improve rounded weights by coordinate descent.
        watch: Called with every node before it is computed.
    """

    view: PreparedView
    original: nn.Module
    found: Refinement
    thorough: bool = False
    watch: Callable[[Node], object] = lambda _: None

    @torch.no_grad()
    def through(self, part: GraphModule, inputs: Sequence[Pair]) -> None:
        """Walk through a network or a part of one, whose layers then compute with what was found.

        Args:
            part: The network of the view, or a part of it.
            inputs: One batch of calibration data for each placeholder. The tensors that the
                network holds at one time are held twice.
        """
        # Two tensors each, or an operation in place on one side would change the other.
        pairs = (Pair(value.exact.clone(), value.quantized.clone()) for value in inputs)
        _Run(part, self).run(*pairs)


class _Run(GraphRun):
    def __init__(self, part: GraphModule, walk: SequentialWalk) -> None:
        super().__init__(part)
        self._walk, self._view, self._found = walk, walk.view, walk.found
        self._node: Node

    def run_node(self, n: Node) -> Any:
        self._node = n
        self._walk.watch(n)
        try:
            return super().run_node(n)
        except CalibrationError as error:
            place = str(n.target if self._view.observer(n) is None else n.args[0])
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
        exact = self._walk.original.get_submodule(target)(*exact_args, **exact_kwargs)
        args, kwargs = _quantized((args, kwargs))
        plan = self._view.plan(self._node)
        # A layer that is called twice is quantized once, for its first call.
        name = self._view.first_name(target)
        if plan is None or name in self._found.weights:
            return Pair(exact, module(*args, **kwargs))
        arriving = Arriving(exact_args[0], args[0], exact)
        weight, output = quantize_layer(module, plan, arriving, thorough=self._walk.thorough)
        self._found.weights[name], self._found.biases[name] = weight, module.bias
        return Pair(exact, output)

    def _on_both(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Pair:
        exact_args, exact_kwargs = _exact((args, kwargs))
        args, kwargs = _quantized((args, kwargs))
        return Pair(function(*exact_args, **exact_kwargs), function(*args, **kwargs))

    def _observe(self, observer: ActivationObserver, value: Pair) -> Pair:
        if self._node.name not in self._view.read:
            return value
        name = self._view.first_name(str(self._node.target))
        parameters = self._found.ranges.get(name)
        # A shared one covers also what comes later.
        is_own = self._node.name in self._view.unshared
        if parameters is None:
            parameters = self._range_of(observer, value.quantized, is_own=is_own)
        readers = self._readers_of(self._node)
        if is_own and observer.plan.output_search and readers:
            parameters = search_range(observer, parameters, readers, value.exact, value.quantized)
        self._found.ranges[name] = parameters
        return Pair(value.exact, observer.fake_quantize(value.quantized, parameters))

    def _range_of(
        self, observer: ActivationObserver, arriving: Tensor, *, is_own: bool
    ) -> AffineParameters:
        """What the rule chooses, from what arrives or from what was seen in the float network.

        Inputs of the network are the same in both, and `calibrate` has seen more of them.
        """
        is_input = self._node.name in self._view.of_inputs
        if is_own and observer.plan.sequential_ranges and not is_input:
            observer = observer.anew()
            observer.count(arriving)
        return observer.parameters_of_range()

    def _readers_of(self, observed: Node) -> list[nn.Module]:
        """The float layers that read a tensor, and an identity for all that is no such layer."""
        weighted = [
            self._walk.original.get_submodule(str(n.target))
            for n in observed.users
            if self._view.is_layer(n)
        ]
        is_used_elsewhere = len(weighted) < len(observed.users)
        return [*weighted, nn.Identity()] if weighted and is_used_elsewhere else weighted


def _exact(arguments: Any) -> Any:
    exact = map_aggregate(arguments, lambda a: a.exact if isinstance(a, Pair) else a)
    return own_containers(exact)


def _quantized(arguments: Any) -> Any:
    quantized = map_aggregate(arguments, lambda a: a.quantized if isinstance(a, Pair) else a)
    return own_containers(quantized)
