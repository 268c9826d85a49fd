"""The thin `torch.ao` shells: what `prepare_fx` inserts and `convert_fx` asks for parameters."""

import warnings
from typing import Any

import torch
from torch import Tensor

from .._torch_ao import ObserverBase
from ..errors import CalibrationError, PrecisionWarning
from ..ops import fake_quantize
from .grid import AffineParameters, Grid
from .plan import LayerPlan, TensorPlan
from .ranges.histogram import TensorHistogram
from .ranges.rules import choose_parameters
from .weights.quantized_weight import QuantizedWeight


class ActivationObserver(ObserverBase):
    """Counts every value it sees and lets a range rule choose scale and zero point from that.

    `prepare_fx` puts it behind a fused activation function, so the histogram is that of the tensor
    which is really quantized ("ReLU fusion" in the CFWS paper). Stock `convert_fx` reads of the
    plan only rule, width and symmetry.

    Args:
        plan: What the scheme has decided for the tensor. May be replaced; what was observed stays.

    Attributes:
        histogram: Of all values so far.
        ignored_value: Not counted: a padding for a max pool, for which the lowest level does.
        has_met_others: Whether something else than one floating-point tensor has come.
    """

    def __init__(self, plan: TensorPlan) -> None:
        super().__init__(dtype=torch.quint8)
        self.plan = plan
        self.histogram = TensorHistogram()
        self.ignored_value: float | None = None
        self.has_met_others = False
        self.qscheme = torch.per_tensor_affine  # The name that torch.ao reads.

    @property
    def grid(self) -> Grid:
        """Of the plan."""
        return self.plan.grid

    @property
    def quant_min(self) -> int:
        """The name that torch.ao reads."""
        return self.plan.grid.quant_min

    @property
    def quant_max(self) -> int:
        """The name that torch.ao reads."""
        return self.plan.grid.quant_max

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

    def anew(self) -> "ActivationObserver":
        """An observer of the same tensor that has seen nothing."""
        other = ActivationObserver(self.plan)
        other.ignored_value = self.ignored_value
        return other

    def parameters_of_range(self) -> AffineParameters:
        """Scale and zero point of the range that the rule chooses.

        Raises:
            CalibrationError: Nothing was observed yet.
        """
        if self.histogram.is_empty:
            raise CalibrationError(
                "an activation observer has seen no data: "
                "run repq_fx.calibrate(prepared, data) before converting."
            )
        plan = self.plan
        return choose_parameters(
            plan.activation, self.histogram, plan.grid, symmetric=plan.symmetric
        )

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
        """The plan."""
        return f"{self.plan}"


class ChosenRange(ActivationObserver):
    """An observer whose range was chosen by more than its rule, for `torch.ao` to convert."""

    def __init__(self, plan: TensorPlan, chosen: AffineParameters) -> None:
        super().__init__(plan)
        self._chosen = chosen

    def parameters_of_range(self) -> AffineParameters:
        """What was chosen."""
        return self._chosen


class WeightObserver(ObserverBase):
    """Carries the plan of a layer through `torch.ao` to our reference modules.

    `torch.ao` hands a module one scale only, which cannot describe a coarse and a fine part, so
    the reference modules call `quantize` themselves. Stock `convert_fx` reads of the plan only
    quantizer and width.

    Args:
        plan: What the scheme has decided for the layer.
    """

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__(dtype=torch.qint8 if plan.weight_bits <= 8 else torch.int16)
        self.plan = plan
        # The names that torch.ao reads.
        grid = Grid.symmetric(plan.weight_bits)
        self.qscheme = torch.per_channel_symmetric
        self.ch_axis = 0
        self.quant_min, self.quant_max = grid.quant_min, grid.quant_max

    def forward(self, weight: Tensor) -> Tensor:
        """Return `weight` unchanged; a weight needs no statistics over batches."""
        return weight

    def quantize(self, weight: Tensor) -> QuantizedWeight:
        """Quantize the weight of one layer, ``[out, in/groups, *kernel]``, to nearest."""
        return self.plan.quantize(weight)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """A placeholder that `torch.ao` passes on and our reference modules do not read."""
        return torch.ones(1), torch.zeros(1, dtype=torch.int64)


class ChosenWeight(WeightObserver):
    """Carries integers that were chosen for more than the weight, for `torch.ao` to convert."""

    def __init__(self, plan: LayerPlan, chosen: QuantizedWeight) -> None:
        super().__init__(plan)
        self._chosen = chosen

    def quantize(self, weight: Tensor) -> QuantizedWeight:
        """What was chosen, where the weight is."""
        return self._chosen.to(weight.device)
