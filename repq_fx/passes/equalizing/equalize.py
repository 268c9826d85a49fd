"""Cross-layer equalization with measured ranges.

Dividing an output channel of a layer by s > 0 and multiplying what reads it by s changes nothing,
as ReLU passes the factor on (Nagel et al., arXiv 1906.04721, section 4.1). It does change what a
quantizer with one scale for the whole tensor loses: channels of a small range gain resolution.
SiLU, GELU and Hardswish do not pass it on; there the division stands behind the function, where it
is one multiplication of what the function returns, before it is rounded.
"""

import logging
from collections.abc import Callable, Collection

from torch import Tensor
from torch.fx import GraphModule, Node

from ..gathering.elementwise_function import ScaledActivation
from ..graph.example import ExampleInputs
from ..graph.module_names import free_name
from .bias_absorption import absorb_high_biases
from .channel_paths import ChannelPath, find_channel_paths
from .channel_steps import bending_activation
from .factors import Readers
from .layer_channels import (
    WeightedLayer,
    at_channels,
    at_weights,
    exact_parameters,
    rewrite,
    weighted_layer,
)
from .layer_statistics import InputStatistics, measure_layers

_LOGGER = logging.getLogger(__name__)
_MIGRATION = 0.3


def equalize(
    graph: GraphModule,
    inputs: ExampleInputs,
    *,
    migration: float = _MIGRATION,
    absorb_bias: bool = False,
) -> GraphModule:
    """Share the differences between channels out to activations and the weights that read them.

    Of every convolution and linear layer whose output reaches nothing but other such layers,
    through ReLU, LeakyReLU, pooling, the product with a gate and the like, each channel is divided
    by a factor, and the weights that read it are multiplied by it. With the range r of the channel
    and the largest weight w that reads it, the factor is r where every reader is depthwise, as a
    weight scale for each output channel then takes it up without loss, and
    r^migration / w^(1 - migration) where a reader mixes channels. Layers before an addition, a
    concatenation or another activation stay as they are, and so do layers that are called twice or
    share parameters. `quantize` also scales behind SiLU, GELU and Hardswish; stock `prepare_fx`
    would take that for a product of its own and round it.

    Args:
        graph: A float model as `reparameterize` returns it. It is not changed.
        inputs: Calibration data, one batch: a tensor or a tuple of tensors.
        migration: Where a reader mixes channels, r becomes (r w)^(1 - migration) and w becomes
            (r w)^migration, up to a common factor: 0 evens out the weights, 1 the activations, and
            little of it may spread the activations further apart than they were.
        absorb_bias: Also move biases as `absorb_high_biases` does. This changes the function
            outside of `inputs`.

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

    def factors(path: ChannelPath, readers: Readers) -> Tensor | None:
        return readers.factors(migration) if path.activation is None else None

    equalized = _equalized(graph, inputs, factors)
    return absorb_high_biases(equalized, inputs)[0] if absorb_bias else equalized


def equalize_behind_activations(
    graph: GraphModule,
    inputs: ExampleInputs,
    *,
    weight_bits: int,
    activation_bits: int,
    only_depthwise: bool = False,
    kept: Collection[str] = (),
) -> GraphModule:
    """`equalize`, behind activation functions that do not pass a factor on as well.

    SiLU, GELU, Hardswish and `ScaledActivation` become a `ScaledActivation` with a factor for each
    channel. Where a reader mixes channels the factors are there those of which the least noise of
    rounding is expected; behind functions that pass a factor on `equalize`'s own were better
    (MobileOne-S0 at 6 bits: 7.8 dB and 7.2).

    Args:
        graph: See `equalize`.
        inputs: See `equalize`.
        weight_bits: For which the noise is estimated.
        activation_bits: The same.
        only_depthwise: Scale nothing that a layer reads which mixes channels.
        kept: Qualified names of activation functions that stay as they are.
    """

    def factors(path: ChannelPath, readers: Readers) -> Tensor | None:
        if only_depthwise and not readers.are_depthwise:
            return None
        if path.activation is None or readers.are_depthwise:
            return readers.factors(_MIGRATION)
        return readers.quietest_factors(weight_bits, activation_bits)

    return _equalized(graph, inputs, factors, kept)


def _equalized(
    graph: GraphModule,
    inputs: ExampleInputs,
    factors_of: Callable[[ChannelPath, Readers], Tensor | None],
    kept: Collection[str] = (),
) -> GraphModule:
    """A copy of `graph` with the channels of each path divided by its factors, if it has any."""
    measured = measure_layers(graph, inputs, InputStatistics.of)
    equalized, layers = measured.graph_module, measured.layers
    outputs: dict[str, Tensor] = {}
    columns: dict[str, Tensor] = {}
    # A layer produces on one path at most and consumes on one at most, and no factor depends on
    # rows, so ranges and weights from before any scaling serve every path.
    for path in find_channel_paths(equalized, measured.shapes, kept):
        channels = InputStatistics.of_all([layers[name] for name in path.consumers])
        readers = Readers([weighted_layer(equalized, name) for name in path.consumers], channels)
        factors = factors_of(path, readers)
        if factors is None:
            continue
        columns |= dict.fromkeys(path.consumers, factors)
        if path.activation is None:
            outputs[path.producer] = factors
        else:
            _scale_behind(equalized, path.activation, path.producer, factors)
    for name in {**outputs, **columns}:
        _rescale(weighted_layer(equalized, name), outputs.get(name), columns.get(name))
    equalized.delete_all_unused_submodules()
    equalized.recompile()
    _LOGGER.info("equalized what %d layers read", len(columns))
    return equalized


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
