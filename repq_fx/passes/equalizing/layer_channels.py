"""The weights of a convolution or linear layer, seen from its input channels."""

from typing import TypeAlias

import torch
from torch import Tensor, nn

WeightedLayer: TypeAlias = nn.Conv2d | nn.Linear


def is_weighted(module: object) -> bool:
    """Whether `module` is exactly a `Conv2d` or `Linear`: a subclass may compute something else."""
    return type(module) in (nn.Conv2d, nn.Linear)


def weighted_layer(model: nn.Module, name: str) -> WeightedLayer:
    """The layer of this qualified name."""
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        raise TypeError(f"'{name}' is a {type(layer).__name__}, not a convolution or linear layer.")
    return layer


def is_depthwise(layer: WeightedLayer) -> bool:
    """Whether every output channel reads one input channel only."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels


def channel_axis(layer: WeightedLayer, ndim: int) -> int:
    """The channel axis of the input and the output of `layer`, which have `ndim` axes."""
    return ndim - 3 if isinstance(layer, nn.Conv2d) else ndim - 1


def channel_rows(layer: WeightedLayer, tensor: Tensor) -> Tensor:
    """One row of values for each channel of the input or output `tensor` of `layer`."""
    rows = tensor.movedim(channel_axis(layer, tensor.ndim), 0)
    return rows.flatten(1) if rows.ndim > 1 else rows.unsqueeze(1)


def channel_bounds(layer: WeightedLayer, tensor: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and largest value of each channel, without a copy of `tensor`."""
    channel = channel_axis(layer, tensor.ndim)
    others = [axis for axis in range(tensor.ndim) if axis != channel]
    return (tensor.amin(others), tensor.amax(others)) if others else (tensor, tensor)


def largest_weights(layer: WeightedLayer) -> Tensor:
    """The largest magnitude among the weights that read each input channel, in float64."""
    weight, _ = exact_parameters(layer)
    magnitude = weight.abs().reshape(*weight.shape[:2], -1).amax(2)
    by_group: Tensor = magnitude.unflatten(0, (_groups(layer), -1))
    return by_group.amax(1).flatten()


def at_weights(layer: WeightedLayer, per_input: Tensor) -> Tensor:
    """A value for each input channel, where the weights that read it are.

    Output channels of group g see the input channels of group g only, which the weight's second
    axis numbers from zero.

    Returns:
        A tensor that broadcasts to the shape of the weight.
    """
    groups = _groups(layer)
    rows = per_input.reshape(groups, -1).repeat_interleave(layer.weight.shape[0] // groups, 0)
    return rows.reshape(*rows.shape, *[1] * (layer.weight.ndim - 2))


def at_channels(layer: WeightedLayer, per_output: Tensor) -> Tensor:
    """A value for each output channel, in a shape that broadcasts to what `layer` returns."""
    return per_output.reshape(-1, 1, 1) if isinstance(layer, nn.Conv2d) else per_output


def rewrite(layer: WeightedLayer, weight: Tensor, bias: Tensor | None) -> None:
    """Give `layer` parameters of these values, in the dtype that it has."""
    old = layer.weight
    layer.weight = nn.Parameter(weight.to(old.dtype), requires_grad=old.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.to(old.dtype), requires_grad=old.requires_grad)


def exact_parameters(layer: WeightedLayer) -> tuple[Tensor, Tensor | None]:
    """Weight and bias in float64, without gradients."""
    bias = None if layer.bias is None else layer.bias.detach().to(torch.float64)
    return layer.weight.detach().to(torch.float64), bias


def _groups(layer: WeightedLayer) -> int:
    return layer.groups if isinstance(layer, nn.Conv2d) else 1
