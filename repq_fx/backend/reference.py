"""Reference layers: integer weights, float32 arithmetic, run anywhere.

They define what every lowered layer must compute. Between a `dequantize` and a `quantize` op their
result is that of the simulated (fake-quantized) layer to the last bit.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..quant import QuantizedModule, QuantizedWeight


class ReferenceLayer(QuantizedModule):
    """Holds the integers of a `QuantizedWeight` and the float bias as buffers."""

    values: Tensor
    scale: Tensor
    coarse_values: Tensor | None
    coarse_scale: Tensor | None
    bias: Tensor | None

    def __init__(self, weight: QuantizedWeight, bias: Tensor | None) -> None:
        super().__init__()
        self.bits, self.coarse_bits = weight.bits, weight.coarse_bits
        self.register_buffer("values", weight.values)
        self.register_buffer("scale", weight.scale)
        self.register_buffer("coarse_values", weight.coarse_values)
        self.register_buffer("coarse_scale", weight.coarse_scale)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    @property
    def quantized_weight(self) -> QuantizedWeight:
        """The integers and scales."""
        return QuantizedWeight(
            self.values, self.scale, self.bits,
            self.coarse_values, self.coarse_scale, self.coarse_bits,
        )  # fmt: skip

    @property
    def is_split(self) -> bool:
        """Whether the weight has a coarse and a fine part."""
        return self.coarse_values is not None


class ReferenceConv2d(ReferenceLayer):
    """Convolution with quantized weights, whole or split into coarse and fine."""

    def __init__(self, weight: QuantizedWeight, conv: nn.Conv2d) -> None:
        super().__init__(weight, conv.bias)
        self.stride = conv.stride
        self.padding = conv.padding
        self.dilation = conv.dilation
        self.groups = conv.groups
        self.padding_mode = conv.padding_mode
        self._padding_per_side = conv._reversed_padding_repeated_twice

    def forward(self, input: Tensor) -> Tensor:
        """Map float ``[N, C, H, W]`` to float, as `nn.Conv2d` does."""
        padded, padding = input, self.padding
        if self.padding_mode != "zeros":
            padded = F.pad(input, self._padding_per_side, mode=self.padding_mode)
            padding = (0, 0)
        weight = self.quantized_weight.dequantize()
        return F.conv2d(padded, weight, self.bias, self.stride, padding, self.dilation, self.groups)

    @classmethod
    def from_float(cls, conv: nn.Conv2d, weight_qparams: Mapping[str, Any]) -> "ReferenceConv2d":
        """Called by `convert_fx`; quantizes with the weight observer of ``conv.qconfig``."""
        del weight_qparams  # One scale, which cannot describe a split: see WeightObserver.
        return cls(_quantized_weight(conv), conv)


class ReferenceLinear(ReferenceLayer):
    """Linear layer with quantized weights."""

    def __init__(self, weight: QuantizedWeight, linear: nn.Linear) -> None:
        super().__init__(weight, linear.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Map float ``[..., in]`` to float ``[..., out]``."""
        return F.linear(input, self.quantized_weight.dequantize(), self.bias)

    @classmethod
    def from_float(cls, linear: nn.Linear, weight_qparams: Mapping[str, Any]) -> "ReferenceLinear":
        """Called by `convert_fx`; quantizes with the weight observer of ``linear.qconfig``."""
        del weight_qparams
        return cls(_quantized_weight(linear), linear)


def _quantized_weight(layer: nn.Conv2d | nn.Linear) -> QuantizedWeight:
    """What the weight observer makes of the weight."""
    observer: Any = layer.qconfig.weight()  # type: ignore[union-attr, operator]
    with torch.no_grad():
        quantized: QuantizedWeight = observer.quantize(layer.weight)
    return quantized
