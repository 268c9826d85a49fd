"""The 8-bit grid of one tensor in a lowered network."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ....ops import quantize

_SMALLEST_SCALE = 2.0**-126  # Of normal float32 numbers, as is its reciprocal.


@dataclass(frozen=True)
class LevelGrid:
    """``real = scale * (level - zero_point)`` for the uint8 levels ``lowest .. highest``."""

    scale: float
    zero_point: int
    lowest: int = 0
    highest: int = 255

    def __post_init__(self) -> None:
        # A file may hold anything; written so that NaN is refused. As compiled programs do.
        levels = (self.zero_point, self.lowest, self.highest)
        if not all(isinstance(level, int) and 0 <= level <= 255 for level in levels):
            raise ValueError(f"LevelGrid: expected levels from 0 to 255, got {self}.")
        is_number = isinstance(self.scale, float | int)
        if not (is_number and _SMALLEST_SCALE <= self.scale <= 1 / _SMALLEST_SCALE):
            raise ValueError(f"LevelGrid: expected a positive finite scale, got {self.scale!r}.")
        if self.lowest > self.highest:
            raise ValueError(f"LevelGrid: expected lowest <= highest, got {self}.")

    def quantize(self, values: Tensor) -> Tensor:
        """The nearest levels of float32 values, ties to even: uint8."""
        return quantize(values, self.scale, self.zero_point, self.lowest, self.highest)

    def dequantize(self, levels: Tensor) -> Tensor:
        """What the levels stand for: float32."""
        return (levels.float() - self.zero_point) * torch.tensor(self.scale, dtype=torch.float32)

    def clipped(self, lowest: float, highest: float) -> "LevelGrid":
        """This grid without the levels of real numbers outside ``lowest .. highest``."""
        inverse = torch.tensor(self.scale, dtype=torch.float32).reciprocal()
        levels = (torch.tensor([lowest, highest]) * inverse).round() + self.zero_point
        return LevelGrid(
            self.scale, self.zero_point, *levels.clamp(self.lowest, self.highest).int().tolist()
        )

    @property
    def program_argument(self) -> tuple[float, int, int, int]:
        """As the methods of a compiled program take it."""
        return self.scale, self.zero_point, self.lowest, self.highest
