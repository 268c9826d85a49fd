"""`Scheme`: one frozen description of how a model is to be quantized."""

import re
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from torch import nn

from .plan import LayerPlan, TensorPlan
from .ranges.rules import MSE, MinMax, RangeRule
from .weights.quantizers import CoarseFine, PerTensor, WeightQuantizer

# Of weights that need `gptq`.
_FEW_BITS = 4


@dataclass(frozen=True)
class Override:
    """Another scheme for some modules, or none at all.

    Attributes:
        target: A module type; a qualified name in the merged model, which stands for all below it
            too; or a compiled regular expression that a qualified name must match from its start.
        scheme: What applies there; None leaves the modules in float. What concerns the model as a
            whole, such as `equalization`, is not read from it.
    """

    target: str | re.Pattern[str] | type[nn.Module]
    scheme: "Scheme | None"

    def __post_init__(self) -> None:
        is_module_type = isinstance(self.target, type) and issubclass(self.target, nn.Module)
        if not (is_module_type or isinstance(self.target, str | re.Pattern)):
            raise TypeError(
                "Override: target must be a module name, a compiled regular expression or an "
                f"nn.Module type, got {self.target!r}."
            )
        if self.scheme is not None and not isinstance(self.scheme, Scheme):
            raise TypeError(
                f"Override of {self.target!r}: expected a Scheme or None, got {self.scheme!r}."
            )
        if self.scheme is not None and self.scheme.overrides:
            raise ValueError(f"Override of {self.target!r}: its scheme must not have overrides.")


@dataclass(frozen=True)
class Scheme:
    """Bits, weight quantizer and activation range rule of a whole model.

    The default is the combination that measures best over the benchmark models
    (`benchmarks/results/`). Activations use all levels of their width; nothing is reduced to 7
    bits as in torch's "x86" default.

    Attributes:
        weight_bits: 2..8, or 16.
        activation_bits: 2..8.
        weight: `PerTensor()`, `PerChannel()` or `CoarseFine()`.
        activation: `MinMax()`, `MovingAverageMinMax()`, `Percentile()`, `KL()`, `MAE()`, `MSE()`,
            `LpLoss()` or `Cosine()`.
        symmetric: Put the zero point of two-sided activations in the middle of the grid.
        float_elementwise: Leave sums, products and pools in float and round only what convolutions
            and linear layers read. More accurate where gates and residuals abound, and slower.
        first_last_bits: 2..8, for weights and inputs of the first and the last layers (those that
            depend on no other, or on which none depends); None for the same as everywhere.
        equalization: Scale channels between layers so that those of one tensor have like ranges;
            done by `quantize`, and by `equalize` before `prepare_fx`. "depthwise" scales only what
            depthwise layers read, which costs their weights nothing.
        sequential_ranges: Choose every range from the tensor that arrives when all before it is
            quantized, instead of the float network's; from the images that `calibrate` keeps, in
            one batch (which a `MovingAverageMinMax` sees as one step).
        output_search: Scale the range of each tensor for the outputs of the layers that read it
            (EasyQuant, arXiv 2006.16669).
        gptq: Round weights so that the error of the layer's outputs is small, not each weight's
            own (arXiv 2210.17323).
        refit: Before rounding with `gptq`, fit each weight to the inputs that the quantized layers
            before it produce. None does so at 4 bits and below: with more, it damps the signal
            more than it repairs.
        bias_correction: Take the mean effect of quantization out of every bias.
        overrides: Other schemes for single modules. A name wins over an expression and that over a
            type; of two of one kind, the later.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    weight: WeightQuantizer = field(default_factory=CoarseFine)
    activation: RangeRule = field(default_factory=MSE)
    symmetric: bool = False
    float_elementwise: bool = False
    first_last_bits: int | None = None
    equalization: bool | Literal["depthwise"] = True
    sequential_ranges: bool = True
    output_search: bool = True
    gptq: bool = True
    refit: bool | None = None
    bias_correction: bool = True
    overrides: tuple[Override, ...] = ()

    def __post_init__(self) -> None:
        _require_bits("weight_bits", self.weight_bits, (*range(2, 9), 16))
        _require_bits("activation_bits", self.activation_bits, tuple(range(2, 9)))
        if self.first_last_bits is not None:
            _require_bits("first_last_bits", self.first_last_bits, tuple(range(2, 9)))
        if self.equalization not in (True, False, "depthwise"):
            raise ValueError(
                'Scheme: equalization must be True, False or "depthwise", '
                f"got {self.equalization!r}."
            )
        if isinstance(self.weight, type) or not isinstance(self.weight, WeightQuantizer):
            raise TypeError(
                "Scheme: weight must be PerTensor(), PerChannel() or CoarseFine(), "
                f"got {self.weight!r}."
            )
        if isinstance(self.activation, type) or not isinstance(self.activation, RangeRule):
            raise TypeError(
                "Scheme: activation must be a range rule such as MinMax(), KL(), MAE() or MSE(), "
                f"got {self.activation!r}."
            )

    @staticmethod
    def w8a8() -> "Scheme":
        """8-bit weights and activations."""
        return Scheme()

    @staticmethod
    def w6a6() -> "Scheme":
        """6-bit weights and activations."""
        return Scheme(weight_bits=6, activation_bits=6)

    @staticmethod
    def w4a8() -> "Scheme":
        """4-bit weights, 8-bit activations."""
        return Scheme(weight_bits=4)

    @staticmethod
    def w4a4() -> "Scheme":
        """4-bit weights and activations."""
        return Scheme(weight_bits=4, activation_bits=4)

    @staticmethod
    def vanilla(weight_bits: int = 8, activation_bits: int = 8) -> "Scheme":
        """The baseline: per-tensor min-max for weights and activations, nothing else."""
        return Scheme.plain(weight_bits, activation_bits, PerTensor(MinMax()), MinMax())

    @staticmethod
    def plain(
        weight_bits: int, activation_bits: int, weight: WeightQuantizer, activation: RangeRule
    ) -> "Scheme":
        """Only a weight quantizer and a range rule: none of the helpers that need data."""
        return Scheme(
            weight_bits, activation_bits, weight, activation,
            equalization=False, sequential_ranges=False, output_search=False, gptq=False,
            bias_correction=False,
        )  # fmt: skip

    @staticmethod
    def of(scheme: "Scheme | str") -> "Scheme":
        """The scheme itself, or the one with this name; see `from_name`.

        Raises:
            TypeError: It is neither.
            ValueError: There is no such scheme.
        """
        if isinstance(scheme, str):
            return Scheme.from_name(scheme)
        if not isinstance(scheme, Scheme):
            raise TypeError(f'scheme must be a Scheme or a name such as "w8a8", got {scheme!r}.')
        return scheme

    @staticmethod
    def from_name(name: str) -> "Scheme":
        """The preset called `name`, such as ``"w8a8"``, or any ``"w<bits>a<bits>"``, in any case.

        Raises:
            ValueError: There is no such scheme.
        """
        if name.lower() == "vanilla":
            return Scheme.vanilla()
        match = re.fullmatch(r"w(\d+)a(\d+)", name.lower())
        if match is None:
            raise ValueError(
                f"unknown scheme {name!r}: use w8a8, w6a6, w4a8, w4a4, another w<bits>a<bits>, "
                "or vanilla."
            )
        weight_bits, activation_bits = map(int, match.groups())
        return Scheme(weight_bits=weight_bits, activation_bits=activation_bits)

    def faster(self) -> "Scheme":
        """This scheme without what takes most of the time: `gptq` and `output_search`.

        At 4 bits and below `gptq` stays, for weights rounded to nearest are of no use there. The
        schemes of overrides change likewise. `benchmarks/README.md` says what that loses.
        """
        overrides = (
            o if o.scheme is None else replace(o, scheme=o.scheme.faster()) for o in self.overrides
        )
        gptq = self.gptq and self.weight_bits <= _FEW_BITS
        return replace(self, gptq=gptq, output_search=False, overrides=tuple(overrides))

    def layer_plan(self) -> LayerPlan:
        """What is decided for the weight of a layer that no override is about."""
        return LayerPlan(**self._fields_of(LayerPlan))

    def tensor_plan(self) -> TensorPlan:
        """What is decided for a tensor of activations that no override is about."""
        return TensorPlan(**self._fields_of(TensorPlan))

    def _fields_of(self, plan: type[LayerPlan] | type[TensorPlan]) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(plan)}

    def with_overrides(self, *overrides: Override) -> "Scheme":
        """This scheme with `overrides` added after its own."""
        return replace(self, overrides=(*self.overrides, *overrides))


def _require_bits(name: str, value: int, allowed: tuple[int, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"Scheme: {name} must be one of {allowed}, got {value!r}.")
