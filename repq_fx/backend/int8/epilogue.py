"""What follows the sums of a layer, or the sum of two tensors, before the result is rounded."""

from dataclasses import dataclass
from enum import Enum

import torch.nn.functional as F
from torch import Tensor

from .level_grid import LevelGrid


class Activation(str, Enum):
    """Activation functions by their names in compiled programs; those that clip are grids."""

    NONE = "none"
    SILU = "silu"
    SIGMOID = "sigmoid"
    HARD_SWISH = "hard_swish"
    HARD_SIGMOID = "hard_sigmoid"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    LEAKY_RELU = "leaky_relu"


_LARGEST_NUMBER = 2.0**126  # Far inside float32, as in csrc/cpu/int8_settings.h.

_FUNCTIONS = {
    Activation.SILU: F.silu,
    Activation.SIGMOID: F.sigmoid,
    Activation.HARD_SWISH: F.hardswish,
    Activation.HARD_SIGMOID: F.hardsigmoid,
    Activation.GELU: F.gelu,
}


@dataclass(frozen=True)
class Epilogue:
    """``output_grid.quantize(factor * activation(value) + offset)``.

    Attributes:
        output_grid: Of the result; None for a float32 result.
        activation: The function.
        slope: Of a leaky ReLU below zero.
        factor: Of the function.
        offset: What is added to it.
    """

    output_grid: LevelGrid | None = None
    activation: Activation = Activation.NONE
    slope: float = 0.0
    factor: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        for name in ("slope", "factor", "offset"):
            number = getattr(self, name)
            if not abs(number) <= _LARGEST_NUMBER:  # So that NaN is refused.
                raise ValueError(f"Epilogue: expected a finite {name}, got {number!r}.")

    def __call__(self, values: Tensor) -> Tensor:
        """Apply it to float32 values."""
        values = self._activate(values)
        if (self.factor, self.offset) != (1.0, 0.0):
            values = values * self.factor + self.offset
        return values if self.output_grid is None else self.output_grid.quantize(values)

    def _activate(self, values: Tensor) -> Tensor:
        if self.activation is Activation.NONE:
            return values
        if self.activation is Activation.LEAKY_RELU:
            return F.leaky_relu(values, self.slope)
        if self.activation is Activation.GELU_TANH:
            return F.gelu(values, approximate="tanh")
        return _FUNCTIONS[self.activation](values)

    @property
    def program_arguments(
        self,
    ) -> tuple[tuple[str, float, float, float], tuple[float, int, int, int] | None]:
        """As the methods of a compiled program take it."""
        grid = None if self.output_grid is None else self.output_grid.program_argument
        return (self.activation.value, self.slope, self.factor, self.offset), grid
