"""A convolution or linear layer whose rounding, channel affine and bias are learned."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..quant import QuantizedWeight
from ..quant.grid import Grid
from ..quant.weights.quantized_weight import add_coarse
from .soft_rounding import SoftRounding


class LearnedLayer(nn.Module):
    """Computes ``gain * layer(input) + shift`` with a weight that is softly rounded.

    Gain and shift, one for each output channel, are QPRep's affine behind the convolution (RepAPQ,
    arXiv 2402.16121). They are applied to weight and bias, which is the same and far smaller than
    the output, and fold exactly into the scales of the weight and the bias.

    Args:
        layer: A convolution or linear layer in float; not changed.
        quantized: Its integers and scales so far.
        bias: Its bias so far.
        magnitude: Of the layer's outputs, a scalar: that of a step of 1 in `shift`.
        rounds_coarse: Learn the rounding of the coarse part of a split weight too.

    Attributes:
        beta: Power of the rounding regularizer; None for none.
        is_hard: Compute with the integers that are decided for, as the converted layer does.
        regularizer: Of the last call.
    """

    coarse_weight: Tensor
    bias: Tensor
    magnitude: Tensor

    def __init__(
        self,
        layer: nn.Conv2d | nn.Linear,
        quantized: QuantizedWeight,
        bias: Tensor | None,
        magnitude: Tensor,
        *,
        rounds_coarse: bool,
    ) -> None:
        super().__init__()
        self._layer = (layer,)  # Not a submodule: its parameters are not ours.
        self._quantized = quantized
        self._has_bias = bias is not None
        weight = layer.weight.detach().float()
        fixed = replace(quantized, values=torch.zeros_like(quantized.values)).dequantize()
        self.fine = SoftRounding(
            weight - fixed, quantized.values, quantized.scale, Grid.symmetric(quantized.bits)
        )
        self.coarse: SoftRounding | None = None
        if rounds_coarse and quantized.coarse_values is not None:
            assert quantized.coarse_scale is not None
            rows, columns = (side // 2 for side in weight.shape[2:])
            centre = quantized.coarse_values.shape != weight.shape
            target = weight[:, :, rows : rows + 1, columns : columns + 1] if centre else weight
            self.coarse = SoftRounding(
                target, quantized.coarse_values, quantized.coarse_scale,
                Grid.symmetric(quantized.coarse_bits),
            )  # fmt: skip
        self.register_buffer("coarse_weight", fixed)
        rows = weight.shape[0]
        self.register_buffer("bias", weight.new_zeros(rows) if bias is None else bias.float())
        self.register_buffer("magnitude", magnitude)
        self.gain = nn.Parameter(weight.new_ones(rows))
        self.shift = nn.Parameter(weight.new_zeros(rows))
        self.beta: float | None = None
        self.is_hard = False
        self.regularizer = weight.new_zeros(())

    def forward(self, input: Tensor) -> Tensor:
        """Map the layer's float input to its output."""
        if self.is_hard:
            quantized, bias = self.result()
            return _apply(self._layer[0], input, quantized.dequantize(), bias)
        weight, self.regularizer = self.fine(self.beta)
        if self.coarse is None:
            weight = weight + self.coarse_weight
        else:
            coarse, regularizer = self.coarse(self.beta)
            weight, self.regularizer = add_coarse(weight, coarse), self.regularizer + regularizer
        weight = weight * self.gain.reshape(-1, *[1] * (weight.dim() - 1))
        return _apply(self._layer[0], input, weight, self._bias())

    @torch.no_grad()
    def result(self) -> tuple[QuantizedWeight, Tensor | None]:
        """Weight and bias as decided, with gain and shift folded in."""
        integers = self.fine.integers().to(self._quantized.values.dtype)
        rounded = replace(self._quantized, values=integers)
        if self.coarse is not None:
            rounded = replace(rounded, coarse_values=self.coarse.integers().to(torch.int8))
        if bool((self.gain != 1).any()):
            rounded = rounded.scaled(self.gain)
        unchanged = not self._has_bias and not bool(self.shift.any())
        return rounded, None if unchanged else self._bias()

    def _bias(self) -> Tensor:
        return self.gain * self.bias + self.magnitude * self.shift


def _apply(layer: nn.Module, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not isinstance(layer, nn.Conv2d):
        return F.linear(input, weight, bias)
    output: Tensor = layer._conv_forward(input, weight, bias)
    return output
