"""How a quantized weight is left on a float layer until conversion."""

from typing import Any

from torch import Tensor, nn

from ..quant import QuantizedWeight


def set_quantized(layer: Any, quantized: QuantizedWeight, bias: Tensor | None) -> None:
    """Let `layer` compute with a quantized weight, which `convert` then takes as it is."""
    device = layer.weight.device  # A checkpoint is on the CPU, and a model may have moved since.
    layer.quantized_weight = quantized = quantized.to(device)
    # New parameters: another layer may be tied to the old ones.
    dequantized = quantized.dequantize().to(layer.weight.dtype)
    layer.weight = nn.Parameter(dequantized, requires_grad=False)
    layer.bias = (
        None if bias is None else nn.Parameter(bias.detach().to(device), requires_grad=False)
    )


def forget_quantized(layer: nn.Module) -> None:
    """Take back that `set_quantized` left something; the weight keeps the values it has."""
    layer.__dict__.pop("quantized_weight", None)


def quantized_weight_of(layer: object) -> QuantizedWeight | None:
    """What `set_quantized` left on the layer."""
    found = getattr(layer, "quantized_weight", None)
    return found if isinstance(found, QuantizedWeight) else None
