"""Weight quantizers: per tensor, per channel, and coarse & fine splitting on top of either."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..ops import fake_quantize
from ..reparam.coarse_fine import add_to_centre, centre_of
from .grid import SMALLEST_SCALE, Grid
from .range_rules import MSE, LpLoss, MinMax

# Joint shrink of the range in steps of one percent, as BRECQ searches it (80 candidates).
_SHRINK_STEPS = 80


@dataclass(frozen=True)
class QuantizedWeight:
    """Integers and scales of one layer's weight, symmetric around 0.

    Attributes:
        values: ``[out, ...]``, int8 (int16 above 8 bits).
        scale: float32, ``[out]`` per channel or ``[1]`` per tensor.
        coarse_values: ``[out, in/groups, 1, 1]``, added at the centre tap; None without a split.
        coarse_scale: float32, ``[out]`` or ``[1]``; None without a split.
    """

    values: Tensor
    scale: Tensor
    coarse_values: Tensor | None = None
    coarse_scale: Tensor | None = None

    def dequantize(self) -> Tensor:
        """The float32 weight that these integers stand for."""
        fine = self.values * _per_row(self.scale, self.values)
        if self.coarse_values is None or self.coarse_scale is None:
            return fine
        return add_to_centre(
            fine, self.coarse_values * _per_row(self.coarse_scale, self.coarse_values)
        )


@runtime_checkable
class WeightQuantizer(Protocol):
    """Turns the float weight of one layer into integers."""

    def quantize(self, weight: Tensor, bits: int) -> QuantizedWeight:
        """Quantize ``[out, in/groups, *kernel]`` to `bits` (2..8, or 16) per integer."""
        ...


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole weight.

    Attributes:
        range: `MinMax()`, or `MSE()` / `MAE()` to search the scale with the smallest error.
    """

    range: MinMax | LpLoss = field(default_factory=MinMax)

    def scale_of(self, weight: Tensor, grid: Grid) -> Tensor:
        """Scale ``[1]``."""
        return _search_scale(weight.reshape(1, -1), grid, self.range)

    def quantize(self, weight: Tensor, bits: int) -> QuantizedWeight:
        """See `WeightQuantizer`."""
        return _quantize_whole(weight, bits, self)


@dataclass(frozen=True)
class PerChannel:
    """One scale for each output channel.

    Attributes:
        range: `MinMax()`, or `MSE()` / `MAE()` to search the scale with the smallest error.
    """

    range: MinMax | LpLoss = field(default_factory=MSE)

    def scale_of(self, weight: Tensor, grid: Grid) -> Tensor:
        """Scales ``[out]``."""
        return _search_scale(weight.flatten(1), grid, self.range)

    def quantize(self, weight: Tensor, bits: int) -> QuantizedWeight:
        """See `WeightQuantizer`."""
        return _quantize_whole(weight, bits, self)


@dataclass(frozen=True)
class CoarseFine:
    """Coarse & fine weight splitting, layer by layer where it pays.

    The centre taps of an odd kernel are rounded to a coarse grid of their own; the fine grid holds
    everything else and what rounding the centre left over. The extra 1x1 product costs
    ``1 / k**2`` of the layer, so a layer is split only if that divides its squared weight error by
    at least `threshold`.

    Attributes:
        granularity: `PerChannel()` or `PerTensor()`, for both grids.
        threshold: Smallest ratio of squared errors, without over with the split, that splits.
    """

    granularity: PerChannel | PerTensor = field(default_factory=PerChannel)
    threshold: float = 1.25

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise ValueError(f"CoarseFine: threshold must not be negative, got {self.threshold}.")

    def quantize(self, weight: Tensor, bits: int) -> QuantizedWeight:
        """See `WeightQuantizer`; the result is not split for 1x1, even or one-row kernels."""
        whole = self.granularity.quantize(weight, bits)
        if weight.dim() != 4 or any(side % 2 == 0 or side < 3 for side in weight.shape[2:]):
            return whole
        split = self._split(weight, bits)
        error = (whole.dequantize() - weight).square().sum()
        split_error = (split.dequantize() - weight).square().sum()
        return split if error >= self.threshold * split_error and error > 0 else whole

    def _split(self, weight: Tensor, bits: int) -> QuantizedWeight:
        # The centre is never clipped: what the coarse grid misses would come back as a residual
        # larger than half its step, and stretch the fine grid again.
        unclipped = type(self.granularity)(MinMax())
        coarse = unclipped.quantize(centre_of(weight), bits)
        residual = add_to_centre(weight, -coarse.dequantize())
        fine = self.granularity.quantize(residual, bits)
        return QuantizedWeight(fine.values, fine.scale, coarse.values, coarse.scale)


def _quantize_whole(
    weight: Tensor, bits: int, granularity: PerTensor | PerChannel
) -> QuantizedWeight:
    grid = Grid.symmetric(bits)
    weight = weight.detach().float()
    scale = granularity.scale_of(weight, grid)
    integers = torch.round(weight * (1.0 / _per_row(scale, weight)))
    dtype = torch.int8 if bits <= 8 else torch.int16
    return QuantizedWeight(integers.clamp(grid.quant_min, grid.quant_max).to(dtype), scale)


def _search_scale(rows: Tensor, grid: Grid, rule: MinMax | LpLoss) -> Tensor:
    """The best scale of each row of ``[rows, n]``: float32 ``[rows]``."""
    widest = (rows.abs().amax(1) / grid.quant_max).clamp_min(SMALLEST_SCALE)
    if isinstance(rule, MinMax):
        return widest
    best_scale = widest
    best_loss = torch.full_like(widest, torch.inf)
    zero_point = torch.zeros(len(rows), dtype=torch.int32, device=rows.device)
    for step in range(_SHRINK_STEPS):
        scale = widest * (1.0 - 0.01 * step)
        rounded = fake_quantize(rows, scale, zero_point, grid.quant_min, grid.quant_max, axis=0)
        # Summed in float64: at 16 bits neighbouring candidates differ in the seventh digit.
        loss = (rounded - rows).abs().double().pow(rule.power).sum(1)
        better = loss < best_loss
        best_scale = torch.where(better, scale, best_scale)
        best_loss = torch.where(better, loss, best_loss)
    return best_scale.clamp_min(SMALLEST_SCALE)


def _per_row(scale: Tensor, weight: Tensor) -> Tensor:
    """Reshape ``[out]`` or ``[1]`` to broadcast over the rows of `weight`."""
    return scale.reshape(-1, *[1] * (weight.dim() - 1))
