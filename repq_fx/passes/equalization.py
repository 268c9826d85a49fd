"""Cross-layer equalization with measured ranges.

Dividing an output channel of a layer by s > 0 and multiplying what reads it by s changes nothing,
as ReLU passes the factor on (Nagel et al., arXiv 1906.04721, section 4.1). It does change what a
quantizer with one scale for the whole tensor loses: channels of a small range gain resolution.
SiLU, GELU and Hardswish do not pass it on; there the division stands behind the function, where it
is one multiplication of what the function returns, before it is rounded.
"""

import logging
from collections.abc import Collection

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from .bias_absorption import absorb_high_biases
from .channel_paths import find_channel_paths
from .channel_steps import bending_activation
from .elementwise_function import ScaledActivation
from .example import ExampleInputs
from .free_names import free_name
from .layer_channels import (
    WeightedLayer,
    at_channels,
    at_weights,
    exact_parameters,
    is_depthwise,
    largest_weights,
    rewrite,
    weighted_layer,
)
from .layer_statistics import input_bounds, measure_layers

_LOGGER = logging.getLogger(__name__)

# A range or weight below this part of its layer's largest counts as this part: merged networks hold
# channels of 1e-24, and the factor that would even them out destroys the rest of the precision.
_FLOOR = 1e-4


def equalize(
    graph: GraphModule,
    inputs: ExampleInputs,
    *,
    migration: float = 0.3,
    absorb_bias: bool = False,
    scaled_activations: bool = False,
    kept: Collection[str] = (),
) -> GraphModule:
    """Share the differences between channels out to activations and the weights that read them.

    Of every convolution and linear layer whose output reaches nothing but other such layers,
    through an activation function, pooling, the product with a gate and the like, each channel is
    divided by a factor, and the weights that read it are multiplied by it. With the range r of the
    channel and the largest weight w that reads it, the factor is r where every reader is depthwise,
    as a weight scale for each output channel then takes it up without loss, and
    r^migration / w^(1 - migration) where a reader mixes channels. The division is one of the
    layer's weights and bias where ReLU or LeakyReLU follows, and behind SiLU, GELU, Hardswish and
    `ScaledActivation`, where asked for, one of what they return. Layers before an addition, a
    concatenation or another activation stay as they are, and so do layers that are called twice or
    share parameters.

    Args:
        graph: A float model as `reparameterize` returns it. It is not changed.
        inputs: Calibration data, one batch: a tensor or a tuple of tensors.
        migration: Where a reader mixes channels, r becomes (r w)^(1 - migration) and w becomes
            (r w)^migration, up to a common factor: 0 evens out the weights, 1 the activations, and
            little of it may spread the activations further apart than they were.
        absorb_bias: Also move biases as `absorb_high_biases` does. This changes the function
            outside of `inputs`.
        scaled_activations: Let SiLU, GELU and Hardswish become a `ScaledActivation`. Stock
            `prepare_fx` traces through it, and would round what is a part of the function as a
            product of its own; `quantize` does not.
        kept: Qualified names of activation functions that stay as they are.

    Returns:
        A graph module that shares nothing with `graph` and computes the same function, up to
        rounding.

    Raises:
        TypeError: `graph` is no graph module, or the inputs are no tensors.
        ValueError: `migration` lies outside [0, 1], or the inputs are empty.
        TraceError: `graph` is in training mode.
        CalibrationError: The inputs, or what a layer makes of them, are not finite.

    Example:
        >>> import torch
        >>> from repq_fx.models import fashion_repvgg
        >>> from repq_fx.passes import equalize, reparameterize
        >>> images = torch.randn(4, 1, 28, 28)
        >>> merged = reparameterize(fashion_repvgg().eval(), images)
        >>> equalized = equalize(merged, images)
        >>> torch.allclose(equalized(images), merged(images), rtol=1e-4, atol=1e-4)
        True
    """
    if not 0 <= migration <= 1:
        raise ValueError(f"migration must lie in [0, 1], got {migration}.")
    measured = measure_layers(graph, inputs, input_bounds)
    equalized, layers = measured.graph_module, measured.layers
    found = find_channel_paths(equalized, measured.shapes, kept)
    paths = [path for path in found if path.activation is None or scaled_activations]
    outputs: dict[str, Tensor] = {}
    columns: dict[str, Tensor] = {}
    # A layer produces on one path at most and consumes on one at most, and no factor depends on
    # rows, so ranges and weights from before any scaling serve every path.
    for path in paths:
        bounds = [layers[name] for name in path.consumers]
        lowest = torch.stack([lowest for lowest, _ in bounds]).amin(0)
        highest = torch.stack([highest for _, highest in bounds]).amax(0)
        readers = [weighted_layer(equalized, name) for name in path.consumers]
        factors = _factors(_ranges(lowest, highest), readers, migration)
        columns |= dict.fromkeys(path.consumers, factors)
        if path.activation is None:
            outputs[path.producer] = factors
        else:
            _scale_behind(equalized, path.activation, path.producer, factors)
    for name in {**outputs, **columns}:
        _rescale(weighted_layer(equalized, name), outputs.get(name), columns.get(name))
    equalized.delete_all_unused_submodules()
    equalized.recompile()
    _LOGGER.info("equalized the outputs of %d layers", len(paths))
    return absorb_high_biases(equalized, inputs)[0] if absorb_bias else equalized


def _ranges(lowest: Tensor, highest: Tensor) -> Tensor:
    """Of each channel the width of the narrowest grid that holds it and has the shape of all.

    One grid serves all channels, so that zero has the same place in it: its part below zero is so
    many times as wide as that above, whatever values a channel has. It is the ratio for which the
    grids of the channels, scaled for each, are narrowest in the geometric mean.
    """
    below, above = -lowest.clamp(max=0), highest.clamp(min=0)
    magnitude = torch.maximum(below, above)
    is_alive = _is_alive(magnitude)
    if not is_alive.any():
        return magnitude
    ratios = torch.logspace(-3, 3, 61, dtype=torch.float64)[:, None]
    widths = torch.maximum(above, below / ratios) * (1 + ratios)
    best = widths[:, is_alive].log().mean(1).argmin()
    return widths[best]


def _is_alive(ranges: Tensor) -> Tensor:
    return ranges > torch.finfo(torch.float32).eps * ranges.amax()


def _factors(ranges: Tensor, readers: list[WeightedLayer], migration: float) -> Tensor:
    """What to divide each output channel by.

    Scales of tensors and of output channels ignore a common factor. It is chosen so that the
    geometric mean is 1, which keeps activations and weights near their magnitude; a largest factor
    of 1 would blow up one channel after the other.
    """
    is_alive = _is_alive(ranges)
    largest = torch.stack([largest_weights(reader) for reader in readers]).amax(0)
    factors = _floored(ranges)
    if not all(map(is_depthwise, readers)):
        factors = factors**migration / _floored(largest) ** (1 - migration)
    # Of a channel without values the data does not tell the range, and unseen data may wake it.
    if not is_alive.any() or not largest.any():
        return torch.ones_like(factors)
    typical = factors[is_alive].log().mean().exp()
    return torch.where(is_alive, factors / typical, 1)


def _floored(values: Tensor) -> Tensor:
    return values.clamp(min=float(values.amax()) * _FLOOR)


def _rescale(layer: WeightedLayer, outputs: Tensor | None, columns: Tensor | None) -> None:
    weight, bias = exact_parameters(layer)
    if columns is not None:
        weight = weight * at_weights(layer, columns)
    if outputs is not None:
        weight = weight / outputs.reshape(-1, *[1] * (weight.ndim - 1))
        bias = None if bias is None else bias / outputs
    rewrite(layer, weight, bias)


def _scale_behind(graph: GraphModule, call: Node, producer: str, factors: Tensor) -> None:
    """Divide what the activation function behind the layer `producer` returns."""
    activation = bending_activation(graph, call)
    assert activation is not None
    layer = weighted_layer(graph, producer)
    factor: Tensor = at_channels(layer, (1 / factors).to(layer.weight.dtype))
    offset: float | Tensor = 0.0
    if isinstance(activation, ScaledActivation):
        if isinstance(activation.offset, Tensor) or activation.offset != 0:
            offset = factor * activation.offset
        factor = factor * activation.factor
        activation = activation.activation
    name = free_name(graph, f"{producer}_activation")
    graph.add_submodule(name, ScaledActivation(activation, factor, offset).eval())
    with graph.graph.inserting_before(call):
        scaled = graph.graph.call_module(name, call.args)
    call.replace_all_uses_with(scaled)
    graph.graph.erase_node(call)
