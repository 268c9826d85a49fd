"""What the convolutions and linear layers of a graph read and return on calibration data."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Size, Tensor
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from ..errors import CalibrationError
from .affine_views import ShapeRecorder
from .canonical_calls import canonicalize_calls
from .example import ExampleInputs, as_inputs, run
from .layer_channels import WeightedLayer, channel_rows, is_weighted
from .trace import copy_of, require_traceable


@dataclass(frozen=True)
class LayerStatistics:
    """One value for each channel, in float64.

    Attributes:
        input_magnitude: The largest magnitude that the layer reads.
        lowest: The smallest value that it returns.
        mean: The mean of what it returns.
        deviation: The standard deviation of what it returns.
    """

    input_magnitude: Tensor
    lowest: Tensor
    mean: Tensor
    deviation: Tensor


@dataclass(frozen=True)
class MeasuredGraph:
    """A run of a graph.

    Attributes:
        graph_module: A copy, which may be edited.
        shapes: What a `ShapeRecorder` noted of its nodes.
        layers: The statistics of its layers under their qualified names; of a layer that is called
            twice, those of its last call.
    """

    graph_module: GraphModule
    shapes: dict[Node, Size]
    layers: dict[str, LayerStatistics]


def measure_layers(graph: GraphModule, inputs: ExampleInputs) -> MeasuredGraph:
    """Run a copy of `graph` once.

    Raises:
        TypeError: `graph` is no graph module, or the inputs are no tensors.
        ValueError: The inputs are empty.
        TraceError: `graph` is in training mode.
        CalibrationError: The inputs, or what a layer makes of them, are not finite.
    """
    if not isinstance(graph, GraphModule):
        raise TypeError(
            f"Cannot measure a {type(graph).__name__}; give the GraphModule that reparameterize or "
            f"trace returns."
        )
    require_traceable(graph)
    samples = as_inputs(inputs)
    first, *others = tree_leaves(samples)
    # A mask beside the images may be infinite; layers that read it are looked at below.
    if not first.isfinite().all() or any(leaf.isnan().any() for leaf in others):
        raise CalibrationError("The calibration data holds NaN or infinite values.")
    graph_copy: Any = copy_of(graph)
    canonicalize_calls(graph_copy)
    measured = MeasuredGraph(graph_copy, {}, {})
    run(_LayerRecorder(measured).run, samples)
    return measured


class _LayerRecorder(ShapeRecorder):
    """Notes the statistics of every layer right after its call: a later node may overwrite them."""

    def __init__(self, measured: MeasuredGraph) -> None:
        super().__init__(measured.graph_module, measured.shapes)
        self.extra_traceback = False  # It would be put into the sentence of an error.
        self._layers = measured.layers

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one module."""
        layer: Any = self.fetch_attr(target)
        if not is_weighted(layer) or not args:
            return super().call_module(target, args, kwargs)
        input_magnitude = channel_rows(layer, args[0]).abs().amax(1).double()
        output = super().call_module(target, args, kwargs)
        self._layers[target] = _statistics(target, layer, input_magnitude, output)
        return output


def _statistics(
    name: str, layer: WeightedLayer, input_magnitude: Tensor, output: Tensor
) -> LayerStatistics:
    rows = channel_rows(layer, output)
    deviation, mean = torch.std_mean(rows, 1, correction=0)
    values = (input_magnitude, rows.amin(1), mean, deviation)
    if not all(bool(torch.isfinite(value).all()) for value in values):
        raise CalibrationError(
            f"Layer '{name}' reads or returns NaN or infinite values on the calibration data."
        )
    return LayerStatistics(*(value.double() for value in values))
