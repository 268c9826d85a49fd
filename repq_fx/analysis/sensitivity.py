"""How much each layer alone disturbs the outputs, and which few of them to leave in float."""

from collections.abc import Callable
from operator import setitem
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_aggregate

from ..backend.prepared_view import PreparedView
from ..errors import RepqError
from ..passes.graph.mutation import mutated_operand
from ..passes.graph.run import GraphRun
from ..refine.refined_copy import refined_copy


@torch.no_grad()
def layer_sensitivities(prepared: GraphModule, images: Tensor) -> dict[str, float]:
    """Noise in the outputs when one layer alone is quantized, with what it reads.

    Args:
        prepared: A model from `prepare_fx`, calibrated; not changed.
        images: One batch of its input.

    Returns:
        For each layer that will be quantized, by qualified name, the squared error over the squared
        output, as a mean over the output tensors.

    Raises:
        ConversionError: `prepared` did not come from `prepare_fx`.
        CalibrationError: It was not calibrated.
    """
    step = "layer_sensitivities"
    view = refined_copy(PreparedView.of(prepared, step), step)
    exact = _Values(view)
    exact.run(images)
    expected = _tensors(exact.outputs())
    found: dict[str, float] = {}
    for node in view.layers:
        outputs = _tensors(_Disturbed(view, exact.env, node).outputs())
        noise = [_relative_noise(e, o) for e, o in zip(expected, outputs, strict=True)]
        found[str(node.target)] = sum(noise) / len(noise)
    return found


def fewest_float_layers(
    sensitivities: Callable[[], dict[str, float]],
    drop: Callable[[list[str]], float],
    budget: float,
) -> list[str]:
    """The most sensitive layers, as few as keep the loss of accuracy within a budget.

    The layers are tried in the order of their sensitivity: those that make up a half of it all,
    three quarters, and so on, until the budget is kept; then the number is halved between the last
    two trials. So a network takes at most about twice as many measurements as the number of layers
    has digits in base 2.

    Args:
        sensitivities: Called only if not all layers can be quantized.
        drop: Measures the loss of accuracy with these layers in float.
        budget: The largest loss that is accepted, in the unit of `drop`.

    Returns:
        The layers; empty if all can be quantized.

    Raises:
        RepqError: The budget is not kept with all of these layers in float.
    """
    if drop([]) <= budget:
        return []
    noise = sensitivities()
    ranking = sorted(noise, key=lambda name: -noise[name])
    total = sum(noise.values())
    too_few, enough, remaining = 0, None, 0.5
    while enough is None:
        count = max(_count_of_share(ranking, noise, total * (1 - remaining)), too_few + 1)
        if drop(ranking[:count]) <= budget:
            enough = count
        elif count >= len(ranking):
            raise RepqError(
                f"even with all {len(ranking)} layers in float, more is lost than {budget}."
            )
        else:
            too_few, remaining = count, remaining / 2
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if drop(ranking[:middle]) <= budget:
            enough = middle
        else:
            too_few = middle
    return ranking[:enough]


def _count_of_share(ranking: list[str], noise: dict[str, float], share: float) -> int:
    reached = 0.0
    for count, name in enumerate(ranking, 1):
        reached += noise[name]
        if reached >= share:
            return count
    return len(ranking)


class _Values(GraphRun):
    """The float network, all of whose values are kept."""

    def __init__(self, view: PreparedView) -> None:
        super().__init__(view.graph_module, garbage_collect_values=False)
        self._view = view

    def run_node(self, n: Node) -> Any:
        if self._view.observer(n) is not None:
            return self.env[n.all_input_nodes[0]]
        overwritten = mutated_operand(self._view.graph_module, n)
        if overwritten is None:
            return super().run_node(n)
        kept = self.env[overwritten]
        self.env[overwritten] = kept.clone()
        result = super().run_node(n)
        if n.target is not setitem:  # Of which later nodes read the operand, not the result.
            self.env[overwritten] = kept
        return result

    def outputs(self) -> Any:
        nodes = self._view.graph_module.graph.nodes
        return self.env[next(node for node in reversed(nodes) if node.op == "output")]


class _Disturbed(_Values):
    """The same with one layer quantized; only what depends on it is computed."""

    def __init__(self, view: PreparedView, exact: dict[Node, Any], layer: Node) -> None:
        super().__init__(view)
        self.env = dict(exact)
        self.env[layer] = self._quantized(layer)
        changed = {layer}
        for node in view.graph_module.graph.nodes:
            if node is not layer and not changed.isdisjoint(node.all_input_nodes):
                self.env[node] = self.run_node(node)
                changed |= {node, mutated_operand(view.graph_module, node) or node}

    def _quantized(self, node: Node) -> Tensor:
        layer, plan = self._view.module(node), self._view.plan(node)
        assert layer is not None
        assert plan is not None
        source = node.all_input_nodes[0]
        value, observer = self.env[source], self._view.observer(source)
        if observer is not None:
            value = observer.fake_quantize(value, observer.parameters_of_range())
        weight = plan.quantize(layer.get_parameter("weight")).dequantize()
        result: Tensor = torch.func.functional_call(layer, {"weight": weight}, (value,))
        return result


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    map_aggregate(value, lambda leaf: found.append(leaf) if isinstance(leaf, Tensor) else None)
    return found


def _relative_noise(exact: Tensor, disturbed: Tensor) -> float:
    signal = float(exact.double().square().sum())
    noise = float((disturbed.double() - exact.double()).square().sum())
    return noise / signal if signal else float(noise > 0)
