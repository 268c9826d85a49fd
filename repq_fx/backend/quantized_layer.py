"""Layers that will be quantized, and how a quantized weight is left on one until conversion."""

from typing import Any

from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ..quant import QuantizedWeight, WeightObserver


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


def weight_observer(module: nn.Module) -> WeightObserver | None:
    """The weight observer of a layer that will be quantized, or None."""
    qconfig: Any = getattr(module, "qconfig", None)
    # A subclass may compute something else, and torch.ao leaves it as it is.
    if qconfig is None or type(module) not in (nn.Conv2d, nn.Linear):
        return None
    observer = qconfig.weight()
    return observer if isinstance(observer, WeightObserver) else None


def is_quantized_layer(prepared: GraphModule, node: Node) -> bool:
    """Whether `node` calls a layer with a `weight_observer`."""
    if node.op != "call_module":
        return False
    return weight_observer(prepared.get_submodule(str(node.target))) is not None
