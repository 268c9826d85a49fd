"""What follows the sums of a layer, or the sum of two tensors, before the result is rounded."""

import zlib
from dataclasses import dataclass, fields
from enum import Enum

import torch
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


ChannelNumbers = float | tuple[float, ...]
"""One number for all channels, or one for each."""

_LARGEST_NUMBER = 2.0**126  # Far inside float32, as in csrc/cpu/int8/steps/settings.h.

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
        factor: Of the function: one for all channels, or one for each.
        offset: What is added to it, likewise.

    Raises:
        ValueError: A number is not finite, or there are different numbers of channels.
    """

    output_grid: LevelGrid | None = None
    activation: Activation = Activation.NONE
    slope: float = 0.0
    factor: ChannelNumbers = 1.0
    offset: ChannelNumbers = 0.0

    def __post_init__(self) -> None:
        for name in ("slope", "factor", "offset"):
            for number in _listed(getattr(self, name)):
                if not abs(number) <= _LARGEST_NUMBER:  # So that NaN is refused.
                    raise ValueError(f"Epilogue: expected a finite {name}, got {number!r}.")
        counts = self._counts
        if 0 in counts or len(counts) > 1:
            raise ValueError(
                "Epilogue: expected as many factors as offsets, at least one, "
                f"got {' and '.join(map(str, sorted(counts)))}."
            )

    def __repr__(self) -> str:
        """As of any dataclass; a checksum stands for the numbers of many channels."""
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        return f"Epilogue({', '.join(f'{name}={_shown(value)}' for name, value in values)})"

    @property
    def channels(self) -> int | None:
        """How many channels it tells apart; None if it treats all alike."""
        return next(iter(self._counts), None)

    @property
    def _counts(self) -> set[int]:
        return {len(each) for each in (self.factor, self.offset) if isinstance(each, tuple)}

    def __call__(self, values: Tensor, channel_shape: tuple[int, ...] = (-1,)) -> Tensor:
        """Apply it to float32 values.

        Args:
            values: Of any shape.
            channel_shape: Of one number for each channel, such that it stands beside `values`.
        """
        values = self._activate(values)
        if (self.factor, self.offset) != (1.0, 0.0):
            factor, offset = (
                torch.tensor(each, dtype=values.dtype, device=values.device).reshape(channel_shape)
                if isinstance(each, tuple)
                else each
                for each in (self.factor, self.offset)
            )
            values = values * factor + offset
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
    ) -> tuple[tuple[str, float, list[float], list[float]], tuple[float, int, int, int] | None]:
        """As the methods of a compiled program take it."""
        grid = None if self.output_grid is None else self.output_grid.program_argument
        factor, offset = list(_listed(self.factor)), list(_listed(self.offset))
        return (self.activation.value, self.slope, factor, offset), grid


def _listed(numbers: ChannelNumbers) -> tuple[float, ...]:
    return numbers if isinstance(numbers, tuple) else (numbers,)


def _shown(value: object) -> str:
    if not isinstance(value, tuple):
        return repr(value)
    return f"<{len(value)} numbers, checksum {zlib.crc32(repr(value).encode()):08x}>"
