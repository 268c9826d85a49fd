"""One layer rounded for what arrives at it."""

from torch import Tensor, nn

from ..backend.quantized_layer import set_quantized
from ..quant import InputMoment, WeightObserver

# A layer with larger second moments of its inputs, in entries, is rounded to nearest: a dense row
# of 9216 weights takes 0.7 GB for each of several copies.
_LARGEST_MOMENT = 9216**2


def quantize_layer(
    layer: nn.Conv2d | nn.Linear,
    observer: WeightObserver,
    exact_input: Tensor,
    input: Tensor,
    exact: Tensor,
    *,
    thorough: bool,
) -> Tensor:
    """Quantize the weight of `layer` and correct its bias, in place.

    Args:
        layer: Reads `input`.
        observer: Says how.
        exact_input: What arrives in the float network.
        input: What arrives in the network quantized so far.
        exact: What the layer returns in the float network.
        thorough: Improve a rounded weight by coordinate descent.

    Returns:
        What the layer now returns for `input`.
    """
    moment, weight = None, layer.weight
    if observer.compensates_rounding and _moment_size(layer) <= _LARGEST_MOMENT:
        wanted = exact_input if observer.refits else None
        moment = InputMoment.of(layer, input, wanted, centered=observer.corrects_bias)
        weight = moment.refit(weight)
    quantized = observer.quantize(weight, moment)
    if thorough and moment is not None:
        quantized = observer.improve(quantized, weight, moment)
    set_quantized(layer, quantized, layer.bias)
    output: Tensor = layer(input)
    if observer.corrects_bias:
        shift = _channel_mean(exact, layer) - _channel_mean(output, layer)
        bias = shift if layer.bias is None else layer.bias + shift
        layer.bias = nn.Parameter(bias, requires_grad=False)
        output += shift[:, None, None] if isinstance(layer, nn.Conv2d) else shift
    return output


def _moment_size(layer: nn.Conv2d | nn.Linear) -> int:
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    return groups * layer.weight[0].numel() ** 2


def _channel_mean(output: Tensor, layer: nn.Module) -> Tensor:
    channel = output.dim() - (3 if isinstance(layer, nn.Conv2d) else 1)  # An image may be alone.
    return output.mean([d for d in range(output.dim()) if d != channel])
