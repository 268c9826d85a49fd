"""One layer rounded for what arrives at it."""

from dataclasses import dataclass

from torch import Tensor, nn

from ..quant import InputMoment, LayerPlan, QuantizedWeight
from .refinement import compute_with

# A layer with larger second moments of its inputs, in entries, is rounded to nearest: a dense row
# of 9216 weights takes 0.7 GB for each of several copies.
_LARGEST_MOMENT = 9216**2


@dataclass(frozen=True)
class Arriving:
    """What arrives at a layer, and what it makes of that in float.

    Attributes:
        exact: Its input in the float network.
        quantized: Its input in the network quantized so far.
        output: What it returns in the float network.
    """

    exact: Tensor
    quantized: Tensor
    output: Tensor


def quantize_layer(
    layer: nn.Conv2d | nn.Linear, plan: LayerPlan, arriving: Arriving, *, thorough: bool
) -> tuple[QuantizedWeight, Tensor]:
    """Quantize the weight of `layer` and correct its bias, in place.

    Args:
        layer: Then computes with both.
        plan: Says how.
        arriving: What it is rounded for.
        thorough: Improve a rounded weight by coordinate descent.

    Returns:
        The weight, and what the layer now returns for what arrives.
    """
    moment, weight = None, layer.weight
    if plan.gptq and _moment_size(layer) <= _LARGEST_MOMENT:
        wanted = arriving.exact if plan.refits else None
        moment = InputMoment.of(layer, arriving.quantized, wanted, centered=plan.bias_correction)
        weight = moment.refit(weight)
    quantized = plan.quantize(weight, moment)
    if thorough and moment is not None:
        quantized = plan.improve(quantized, weight, moment)
    compute_with(layer, quantized, layer.bias)
    output: Tensor = layer(arriving.quantized)
    if plan.bias_correction:
        shift = _channel_mean(arriving.output, layer) - _channel_mean(output, layer)
        bias = shift if layer.bias is None else layer.bias + shift
        layer.bias = nn.Parameter(bias, requires_grad=False)
        output += shift[:, None, None] if isinstance(layer, nn.Conv2d) else shift
    return quantized, output


def _moment_size(layer: nn.Conv2d | nn.Linear) -> int:
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return groups * layer.weight[0].numel() ** 2


def _channel_mean(output: Tensor, layer: nn.Module) -> Tensor:
    channel = output.dim() - (3 if isinstance(layer, nn.Conv2d) else 1)  # An image may be alone.
    return output.mean([d for d in range(output.dim()) if d != channel])
