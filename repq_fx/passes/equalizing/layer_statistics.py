"""What the convolutions and linear layers of a graph read and return on calibration data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import torch
from torch import Size, Tensor
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from ...errors import CalibrationError
from ..graph.canonical_calls import canonicalize_calls
from ..graph.example import ExampleInputs, as_inputs, run
from ..graph.run import ShapeRecorder
from ..tracing.trace import copy_of, require_traceable
from .layer_channels import WeightedLayer, channel_bounds, channel_rows, is_weighted

T = TypeVar("T")
Statistic: TypeAlias = Callable[[WeightedLayer, Tensor, Tensor], T]
"""What is computed of a layer, its input and its output, right after its call."""


@dataclass(frozen=True)
class InputStatistics:
    """One value for each channel that a layer reads, in float64.

    Attributes:
        lowest: The smallest value.
        highest: The largest value.
        power: The mean square.
    """

    lowest: Tensor
    highest: Tensor
    power: Tensor

    @staticmethod
    def of(layer: WeightedLayer, input: Tensor, _: Tensor) -> "InputStatistics":
        """A `Statistic`."""
        lowest, highest = channel_bounds(layer, input)
        rows = channel_rows(layer, input)
        power = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).square() / rows.shape[1]
        return InputStatistics(lowest.double(), highest.double(), power)

    @staticmethod
    def of_all(statistics: "Sequence[InputStatistics]") -> "InputStatistics":
        """Of several layers that read the same channels, each after steps of its own."""
        return InputStatistics(
            torch.stack([each.lowest for each in statistics]).amin(0),
            torch.stack([each.highest for each in statistics]).amax(0),
            torch.stack([each.power for each in statistics]).amax(0),
        )


@dataclass(frozen=True)
class OutputStatistics:
    """One value for each channel of what a layer returns, in float64.

    Attributes:
        lowest: The smallest value.
        mean: The mean.
        deviation: The standard deviation.
    """

    lowest: Tensor
    mean: Tensor
    deviation: Tensor

    @staticmethod
    def of(layer: WeightedLayer, _: Tensor, output: Tensor) -> "OutputStatistics":
        """A `Statistic`."""
        deviation, mean = torch.std_mean(channel_rows(layer, output), 1, correction=0)
        lowest, _ = channel_bounds(layer, output)
        return OutputStatistics(lowest.double(), mean.double(), deviation.double())


@dataclass(frozen=True)
class MeasuredGraph(Generic[T]):
    """A run of a graph.

    Attributes:
        graph_module: A copy, which may be edited.
        shapes: What a `ShapeRecorder` noted of its nodes.
        layers: The statistics of its layers under their qualified names; of a layer that is called
            twice, those of its last call.
    """

    graph_module: GraphModule
    shapes: dict[Node, Size]
    layers: dict[str, T]


def measure_layers(
    graph: GraphModule, inputs: ExampleInputs, statistic: Statistic[T]
) -> MeasuredGraph[T]:
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
    measured: MeasuredGraph[T] = MeasuredGraph(graph_copy, {}, {})
    run(_LayerRecorder(measured, statistic).run, samples)
    return measured


class _LayerRecorder(ShapeRecorder, Generic[T]):
    """Notes the statistic of every layer right after its call: a later node may overwrite them."""

    def __init__(self, measured: MeasuredGraph[T], statistic: Statistic[T]) -> None:
        super().__init__(measured.graph_module, measured.shapes)
        self.extra_traceback = False  # It would be put into the sentence of an error.
        self._layers = measured.layers
        self._statistic = statistic

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one module."""
        layer: Any = self.fetch_attr(target)
        output = super().call_module(target, args, kwargs)
        if is_weighted(layer) and args:
            # Whatever is not finite is one of the extremes, and makes an output that is not.
            if not all(bool(torch.isfinite(value)) for value in torch.aminmax(output)):
                raise CalibrationError(
                    f"Layer '{target}' reads or returns NaN or infinite values on the calibration "
                    "data."
                )
            self._layers[target] = self._statistic(layer, args[0], output)
        return output
