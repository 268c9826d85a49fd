"""What a scheme has decided for one layer, and for one tensor.

A `Scheme` makes plans, and whatever acts on a decision reads it there, under the scheme's own name.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from .grid import Grid
from .ranges.rules import MinMax, RangeRule
from .weights.coordinate_descent import improve
from .weights.gptq import InputMoment
from .weights.quantized_weight import QuantizedWeight
from .weights.quantizers import WeightQuantizer

# With more bits, fitting damps the signal more than it repairs (benchmarks/results, "refit").
_MOST_REFIT_BITS = 4
# With more, activations limit the outputs, and coordinate descent takes longer than all else.
_MOST_IMPROVED_BITS = 6


@dataclass(frozen=True)
class LayerPlan:
    """How the weight of one layer becomes integers; the fields are those of `Scheme`."""

    weight: WeightQuantizer
    weight_bits: int
    first_last_bits: int | None = None
    gptq: bool = False
    refit: bool | None = False
    bias_correction: bool = False

    @property
    def refits(self) -> bool:
        """Whether the weight is fitted to the inputs that arrive before it is rounded."""
        return self.weight_bits <= _MOST_REFIT_BITS if self.refit is None else self.refit

    def at_edge(self) -> "LayerPlan":
        """The plan of a first or last layer of the network."""
        return replace(self, weight_bits=self.first_last_bits or self.weight_bits)

    def quantize(self, weight: Tensor, moment: InputMoment | None = None) -> QuantizedWeight:
        """Quantize the weight of one layer, ``[out, in/groups, *kernel]``."""
        return self.weight.quantize(weight, self.weight_bits, moment)

    def improve(
        self, quantized: QuantizedWeight, weight: Tensor, moment: InputMoment
    ) -> QuantizedWeight:
        """Spend more time on what `quantize` has returned, where rounding limits the outputs."""
        if self.weight_bits > _MOST_IMPROVED_BITS:
            return quantized
        granularity = getattr(self.weight, "granularity", self.weight)
        fits_scale = not isinstance(getattr(granularity, "range", None), MinMax)
        return improve(quantized, weight, moment, fits_scale=fits_scale)


@dataclass(frozen=True)
class TensorPlan:
    """How one tensor of activations becomes integers; the fields are those of `Scheme`."""

    activation: RangeRule
    activation_bits: int
    symmetric: bool = False
    float_elementwise: bool = False
    sequential_ranges: bool = False
    output_search: bool = False

    @property
    def grid(self) -> Grid:
        """The unsigned grid of this width."""
        return Grid.unsigned(self.activation_bits)

    def of_constant(self) -> "TensorPlan":
        """The plan of a tensor that is the same for all inputs: no value of it is an outlier."""
        return replace(self, activation=MinMax(), sequential_ranges=False, output_search=False)
