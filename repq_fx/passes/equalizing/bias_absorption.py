"""High biases moved behind the ReLU that they pass.

A channel that never falls below some m > 0 before a ReLU carries an offset that costs its readers
resolution. Since relu(x) = relu(x - m) + m where x >= m, the offset can move into the readers'
biases (Nagel et al., arXiv 1906.04721, section 4.1.3).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule

from ..graph.example import ExampleInputs
from .channel_paths import ChannelPath, find_channel_paths
from .layer_channels import (
    WeightedLayer,
    at_weights,
    exact_parameters,
    rewrite,
    weighted_layer,
)
from .layer_statistics import OutputStatistics, measure_layers

_RELUS = (nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_")


def absorb_high_biases(
    graph: GraphModule, inputs: ExampleInputs
) -> tuple[GraphModule, dict[str, int]]:
    """Move what every value of a channel exceeds zero by into the biases of the next layers.

    Only between layers with nothing but ReLU in between, whose readers are linear or do not pad.
    The offset is the paper's max(0, mean - 3 deviations) or the smallest value seen, whichever is
    less, so the result is exact on `inputs`. It is another function than `graph` wherever a value
    falls below what `inputs` showed.

    Args:
        graph: A float model as `reparameterize` returns it. It is not changed.
        inputs: Calibration data, one batch: a tensor or a tuple of tensors.

    Returns:
        A graph module that shares nothing with `graph`, and how many channels moved of each layer
        that has any.

    Raises:
        TypeError: See `measure_layers`.
        ValueError: See `measure_layers`.
        TraceError: See `measure_layers`.
        CalibrationError: See `measure_layers`.
    """
    measured = measure_layers(graph, inputs, OutputStatistics.of)
    absorbed = measured.graph_module
    moved: dict[str, int] = {}
    for path in find_channel_paths(absorbed, measured.shapes):
        readers = [weighted_layer(absorbed, name) for name in path.consumers]
        offset = _offset(measured.layers[path.producer])
        if not offset.any() or not _is_exact_for_positive(path) or any(map(_pads, readers)):
            continue
        _shift_bias(weighted_layer(absorbed, path.producer), -offset)
        for reader in readers:
            weight, _ = exact_parameters(reader)
            contributions = (weight * at_weights(reader, offset)).flatten(1).sum(1)
            _shift_bias(reader, contributions)
        moved[path.producer] = int(offset.count_nonzero())
    return absorbed, moved


def _offset(statistics: OutputStatistics) -> Tensor:
    surely = torch.minimum(statistics.lowest, statistics.mean - 3 * statistics.deviation)
    return surely.clamp(min=0)


def _is_exact_for_positive(path: ChannelPath) -> bool:
    is_bare = path.activation is None and bool(path.steps)
    return is_bare and all(step in _RELUS for step in path.steps)


def _pads(layer: WeightedLayer) -> bool:
    # A border of zeros gets no share of the offset that the new bias adds everywhere.
    return isinstance(layer, nn.Conv2d) and layer.padding not in ((0, 0), "valid")


def _shift_bias(layer: WeightedLayer, shift: Tensor) -> None:
    weight, bias = exact_parameters(layer)
    rewrite(layer, weight, shift if bias is None else bias + shift)
