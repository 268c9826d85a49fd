"""The thin `torch.ao` shells: what `prepare_fx` inserts and `convert_fx` asks for parameters."""

import warnings
from typing import Any

import torch
from torch import Tensor

from .._torch_ao import ObserverBase
from ..errors import CalibrationError, PrecisionWarning
from ..ops import fake_quantize
from .grid import AffineParameters, Grid
from .ranges.histogram import TensorHistogram
from .ranges.rules import MinMax, RangeRule, choose_parameters
from .weights.coordinate_descent import improve
from .weights.gptq import InputMoment
from .weights.quantized_weight import QuantizedWeight
from .weights.quantizers import WeightQuantizer

# With more bits, fitting damps the signal more than it repairs (benchmarks/results, "refit").
_MOST_REFIT_BITS = 4
# With more, activations limit the outputs, and coordinate descent takes longer than all else.
_MOST_IMPROVED_BITS = 6


class ActivationObserver(ObserverBase):
    """Counts every value it sees and lets a range rule choose scale and zero point from that.

    `prepare_fx` puts it behind a fused activation function, so the histogram is that of the tensor
    which is really quantized ("ReLU fusion" in the CFWS paper).

    Args:
        rule: Chooses the range from the histogram.
        bits: Width of the unsigned grid, 2..8.
        symmetric: Put the zero point of two-sided tensors in the middle of the grid.
        layers_only: Let `repq_fx.convert` round only what convolutions and linear layers read.
            Stock `convert_fx` heeds neither this nor the options below.
        first_last_bits: Let it use this width instead where the first and the last layers read.
        sequential: Let it choose the range again from the tensor that arrives when everything
            before it is quantized.
        searches_outputs: Let it then scale the range for the outputs of the layers that read it.
    """

    def __init__(
        self,
        rule: RangeRule,
        bits: int,
        *,
        symmetric: bool,
        layers_only: bool = False,
        first_last_bits: int | None = None,
        sequential: bool = False,
        searches_outputs: bool = False,
    ) -> None:
        super().__init__(dtype=torch.quint8)
        self.rule = rule
        self.symmetric = symmetric
        self.layers_only = layers_only
        self.first_last_bits = first_last_bits
        self.sequential = sequential
        self.searches_outputs = searches_outputs
        self.histogram = TensorHistogram()
        self.chosen: AffineParameters | None = None
        # Of a padding for a max pool: it stands for no value, and the lowest level does as well.
        self.ignored_value: float | None = None
        self.has_met_others = False
        self.qscheme = torch.per_tensor_affine  # The name that torch.ao reads.
        self.set_bits(bits)

    def set_bits(self, bits: int) -> None:
        """Choose another width of the grid; what was observed stays."""
        self.grid = Grid.unsigned(bits)
        # The names that torch.ao reads.
        self.quant_min, self.quant_max = self.grid.quant_min, self.grid.quant_max

    def forward(self, values: Any) -> Any:
        """Count `values` of any shape and return them unchanged.

        What is not one floating-point tensor, `convert` takes for what is not to be rounded.
        """
        if isinstance(values, Tensor) and values.is_floating_point():
            self.count(values.detach())
        else:
            self.has_met_others = True
        return values

    def count(self, values: Tensor) -> None:
        """Add `values` to the histogram."""
        if self.ignored_value is not None:
            values = values[values != self.ignored_value]
        self.histogram.update(values)

    def parameters_of_range(self) -> AffineParameters:
        """`chosen` if that was set, else scale and zero point of the range the rule chooses.

        Raises:
            CalibrationError: Nothing was observed yet.
        """
        if self.chosen is not None:
            return self.chosen
        if self.histogram.is_empty:
            raise CalibrationError(
                "an activation observer has seen no data: "
                "run repq_fx.calibrate(prepared, data) before converting."
            )
        return choose_parameters(self.rule, self.histogram, self.grid, symmetric=self.symmetric)

    def fake_quantize(self, values: Tensor, parameters: AffineParameters) -> Tensor:
        """Round `values` to the observer's grid in float."""
        scale = torch.tensor([parameters.scale], device=values.device)
        zero_point = torch.tensor([parameters.zero_point], device=values.device)
        return fake_quantize(values, scale, zero_point, self.quant_min, self.quant_max)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """`parameters_of_range` as float32 and int64 tensors ``[1]``, for `torch.ao`."""
        if self.quant_max < 255:
            warnings.warn(
                f"stock convert_fx stores activations as quint8, which ignores the bound "
                f"{self.quant_max} of this scheme's grid; repq_fx.convert keeps it.",
                PrecisionWarning,
                stacklevel=2,
            )
        parameters = self.parameters_of_range()
        return torch.tensor([parameters.scale]), torch.tensor([parameters.zero_point])

    def extra_repr(self) -> str:
        """Rule and grid."""
        return f"rule={self.rule}, grid={self.grid}"


class WeightObserver(ObserverBase):
    """Carries a weight quantizer through `torch.ao` to our reference modules.

    `torch.ao` hands a module one scale only, which cannot describe a coarse and a fine part, so
    the reference modules call `quantize` themselves.

    Args:
        quantizer: Turns the weight into integers.
        bits: Width of the signed grid, 2..8 or 16.
        first_last_bits: Let `repq_fx.convert` use this width instead in the first and the last
            layers; stock `convert_fx` does not.
        compensates_rounding: Let `repq_fx.convert` round for the layer's outputs (GPTQ); stock
            `convert_fx` rounds to nearest.
        refit: Let it first fit the weight to the inputs that arrive, which layers before have
            changed; None does so at 4 bits and below. Only with `compensates_rounding`.
        corrects_bias: Let `repq_fx.convert` correct the layer's bias; stock `convert_fx` does not.
    """

    def __init__(
        self,
        quantizer: WeightQuantizer,
        bits: int,
        *,
        first_last_bits: int | None = None,
        compensates_rounding: bool = False,
        refit: bool | None = False,
        corrects_bias: bool = False,
    ) -> None:
        super().__init__(dtype=torch.qint8 if bits <= 8 else torch.int16)
        self.quantizer = quantizer
        self.bits = bits
        self.first_last_bits = first_last_bits
        self.compensates_rounding = compensates_rounding
        self.refits = bits <= _MOST_REFIT_BITS if refit is None else refit
        self.corrects_bias = corrects_bias
        # The names that torch.ao reads.
        grid = Grid.symmetric(bits)
        self.qscheme = torch.per_channel_symmetric
        self.ch_axis = 0
        self.quant_min, self.quant_max = grid.quant_min, grid.quant_max

    def forward(self, weight: Tensor) -> Tensor:
        """Return `weight` unchanged; a weight needs no statistics over batches."""
        return weight

    def quantize(self, weight: Tensor, moment: InputMoment | None = None) -> QuantizedWeight:
        """Quantize the weight of one layer, ``[out, in/groups, *kernel]``."""
        return self.quantizer.quantize(weight, self.bits, moment)

    def improve(
        self, quantized: QuantizedWeight, weight: Tensor, moment: InputMoment
    ) -> QuantizedWeight:
        """Spend more time on what `quantize` has returned, where rounding limits the outputs."""
        if self.bits > _MOST_IMPROVED_BITS:
            return quantized
        granularity = getattr(self.quantizer, "granularity", self.quantizer)
        fits_scale = not isinstance(getattr(granularity, "range", None), MinMax)
        return improve(quantized, weight, moment, fits_scale=fits_scale)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """A placeholder that `torch.ao` passes on and our reference modules do not read."""
        return torch.ones(1), torch.zeros(1, dtype=torch.int64)
