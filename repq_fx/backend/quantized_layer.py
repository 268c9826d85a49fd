"""How a quantized weight is left on a float layer until conversion."""

from typing import Any

from torch import Tensor, nn

from ..quant import QuantizedWeight


def set_quantized(layer: Any, quantized: QuantizedWeight, bias: Tensor | None) -> None:
    """Let `layer` compute with a quantized weight, which `convert` then takes as it is."""
    layer.quantized_weight = quantized
    # New parameters: another layer may be tied to the old ones.
    dequantized = quantized.dequantize().to(layer.weight.dtype)
    layer.weight = nn.Parameter(dequantized, requires_grad=False)
    layer.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)


def quantized_weight_of(layer: object) -> QuantizedWeight | None:
    """What `set_quantized` left on the layer."""
    found = getattr(layer, "quantized_weight", None)
    return found if isinstance(found, QuantizedWeight) else None
