"""Integer grids and the affine parameters that map real ranges onto them."""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

# Keeps a scale, its reciprocal and the product of two scales normal float32 numbers, also for the
# dead channels of real checkpoints (weights near 1e-24 in MobileOne-S0).
SMALLEST_SCALE = 2.0**-60


@dataclass(frozen=True)
class Grid:
    """The integers a quantized tensor may hold, both ends included."""

    quant_min: int
    quant_max: int

    @staticmethod
    def unsigned(bits: int) -> "Grid":
        """``0 .. 2**bits - 1``, the grid of activations."""
        return Grid(0, 2**bits - 1)

    @staticmethod
    def symmetric(bits: int) -> "Grid":
        """``-(2**(bits-1) - 1) .. 2**(bits-1) - 1``, the zero-point-free grid of weights."""
        largest = 2 ** (bits - 1) - 1
        return Grid(-largest, largest)


@dataclass(frozen=True)
class AffineParameters:
    """``real = scale * (integer - zero_point)``; `scale` is exactly representable in float32."""

    scale: float
    zero_point: int

    def real_range(self, grid: Grid) -> tuple[float, float]:
        """The smallest and largest real number that `grid` represents."""
        return (
            self.scale * (grid.quant_min - self.zero_point),
            self.scale * (grid.quant_max - self.zero_point),
        )

    def scaled(self, factor: float) -> "AffineParameters":
        """The same zero point with a wider or narrower range."""
        return AffineParameters(_as_float32(self.scale * factor), self.zero_point)


def affine_parameters(
    lowest: float, highest: float, grid: Grid, *, symmetric: bool
) -> AffineParameters:
    """Cover ``[lowest, highest]``, widened to contain 0 so that 0 is exact.

    With `symmetric` a two-sided range gets its zero point in the middle of the grid; a one-sided
    range uses the whole grid either way. A range of width 0 gets scale 1.
    """
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    if lowest == highest:
        return AffineParameters(1.0, grid.quant_min)
    if symmetric and lowest < 0.0 < highest:
        zero_point = (grid.quant_min + grid.quant_max + 1) // 2
        scale = max(-lowest, highest) / (grid.quant_max - zero_point)
        return AffineParameters(_as_float32(scale), zero_point)
    # Halved before the subtraction, or a range of the whole float64 line would overflow.
    scale = _as_float32((highest / 2 - lowest / 2) * 2 / (grid.quant_max - grid.quant_min))
    zero_point = grid.quant_min + round(-lowest / scale)
    return AffineParameters(scale, min(max(zero_point, grid.quant_min), grid.quant_max))


def affine_parameters_of_each(
    lowest: Tensor, highest: Tensor, grid: Grid, *, symmetric: bool
) -> tuple[Tensor, Tensor]:
    """Scales and zero points of many ranges: those of `affine_parameters`, bit for bit.

    Args:
        lowest: float64 ``[n]``.
        highest: float64 ``[n]``, nowhere below `lowest`.
        grid: The integers to quantize to.
        symmetric: See `affine_parameters`.

    Returns:
        float64 and int64, ``[n]``.
    """
    lowest, highest = lowest.clamp(max=0.0), highest.clamp(min=0.0)
    scale = (highest / 2 - lowest / 2) * 2 / (grid.quant_max - grid.quant_min)
    scale = scale.clamp(min=SMALLEST_SCALE).float().double()
    zero_point = grid.quant_min + torch.round(-lowest / scale).long()
    zero_point.clamp_(grid.quant_min, grid.quant_max)
    if symmetric:
        two_sided, middle = (
            (lowest < 0.0) & (highest > 0.0),
            (grid.quant_min + grid.quant_max + 1) // 2,
        )
        largest = torch.maximum(-lowest, highest) / (grid.quant_max - middle)
        largest = largest.clamp(min=SMALLEST_SCALE).float().double()
        scale = torch.where(two_sided, largest, scale)
        zero_point = torch.where(two_sided, middle, zero_point)
    return torch.where(lowest == highest, 1.0, scale), zero_point


def _as_float32(scale: float) -> float:
    return ctypes.c_float(max(scale, SMALLEST_SCALE)).value
