"""Weight quantizers: per tensor, per channel, and coarse & fine splitting on top of either."""

from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ...ops import search_scale
from ...reparam.coarse_fine import centre_of
from ..grid import SMALLEST_SCALE, Grid
from ..ranges.rules import MSE, LpLoss, MinMax
from .gptq import InputMoment, compensated_rounding
from .quantized_weight import QuantizedWeight, add_coarse, per_row

# How the gain of a split that rounding to nearest foretells compares with that of rounding for the
# outputs: over the layers of the benchmarks between 0.9 and 1.3 of it near the threshold.
_SURELY, _HARDLY = 2.0, 0.85


@runtime_checkable
class WeightQuantizer(Protocol):
    """Turns the float weight of one layer into integers."""

    def quantize(
        self, weight: Tensor, bits: int, moment: InputMoment | None = None
    ) -> QuantizedWeight:
        """Quantize ``[out, in/groups, *kernel]`` to `bits` (2..8, or 16) per integer.

        With the `moment` of the layer's inputs the error of its outputs is kept small instead of
        that of the weight itself.
        """
        ...


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole weight.

    Attributes:
        range: `MinMax()`, or `MSE()` / `MAE()` to search the scale with the smallest error.
    """

    range: MinMax | LpLoss = field(default_factory=MinMax)

    def scale_of(self, weight: Tensor, grid: Grid, importance: Tensor | None = None) -> Tensor:
        """Scale ``[1]``; `importance`, as `weight`, multiplies the error of each entry."""
        rows = None if importance is None else importance.reshape(1, -1)
        return _search_scale(weight.reshape(1, -1), grid, self.range, rows)

    def quantize(
        self, weight: Tensor, bits: int, moment: InputMoment | None = None
    ) -> QuantizedWeight:
        """See `WeightQuantizer`."""
        return _quantize_whole(weight, bits, self, moment)


@dataclass(frozen=True)
class PerChannel:
    """One scale for each output channel.

    Attributes:
        range: `MinMax()`, or `MSE()` / `MAE()` to search the scale with the smallest error.
    """

    range: MinMax | LpLoss = field(default_factory=MSE)

    def scale_of(self, weight: Tensor, grid: Grid, importance: Tensor | None = None) -> Tensor:
        """Scales ``[out]``; `importance`, as `weight`, multiplies the error of each entry."""
        rows = None if importance is None else importance.flatten(1)
        return _search_scale(weight.flatten(1), grid, self.range, rows)

    def quantize(
        self, weight: Tensor, bits: int, moment: InputMoment | None = None
    ) -> QuantizedWeight:
        """See `WeightQuantizer`."""
        return _quantize_whole(weight, bits, self, moment)


@dataclass(frozen=True)
class CoarseFine:
    """Coarse & fine weight splitting (CFWS), layer by layer where it pays.

    The centre taps of an odd kernel are rounded to a coarse grid of their own; the fine grid holds
    everything else and what rounding the centre left over. The extra 1x1 product costs
    ``1 / k**2`` of the layer, so a layer is split only if that divides its squared error, of the
    outputs where the inputs are known and else of the weight, by at least `threshold`.

    Attributes:
        granularity: `PerChannel()` or `PerTensor()`, for both grids.
        threshold: Smallest ratio of squared errors, without over with the split, that splits; 0
            splits every layer that can be.
        coarse_bits: 2..8; None for as many as the fine part.
        whole_kernel: Give every tap a coarse part instead of the centre only. This doubles the
            products and is the ablation of the CFWS paper; it runs on the reference backend.
    """

    granularity: PerChannel | PerTensor = field(default_factory=PerChannel)
    threshold: float = 1.25
    coarse_bits: int | None = None
    whole_kernel: bool = False

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise ValueError(f"CoarseFine: threshold must not be negative, got {self.threshold}.")
        if self.coarse_bits not in (None, *range(2, 9)):
            raise ValueError(f"CoarseFine: coarse_bits must be 2..8, got {self.coarse_bits!r}.")

    def quantize(
        self, weight: Tensor, bits: int, moment: InputMoment | None = None
    ) -> QuantizedWeight:
        """See `WeightQuantizer`; the result is not split for 1x1, even or one-row kernels."""
        if weight.dim() != 4 or any(side % 2 == 0 or side < 3 for side in weight.shape[2:]):
            return self.granularity.quantize(weight, bits, moment)
        coarse, represented = self._coarse_part(weight, bits)

        def split() -> QuantizedWeight:
            fine = _quantize_whole(weight, bits, self.granularity, moment, represented)
            return replace(
                fine,
                coarse_values=coarse.values,
                coarse_scale=coarse.scale,
                coarse_bits=coarse.bits,
            )

        foretold = self._foretold_gain(weight, bits, moment, represented)
        if foretold > _SURELY * self.threshold:
            return split()
        whole = self.granularity.quantize(weight, bits, moment)
        if foretold < _HARDLY * self.threshold:
            return whole
        candidate = split()
        error, split_error = (_error(weight, part, moment) for part in (whole, candidate))
        return candidate if error >= self.threshold * split_error and error > 0 else whole

    def _coarse_part(self, weight: Tensor, bits: int) -> tuple[QuantizedWeight, Tensor]:
        """The coarse part, and what it represents of the weight."""
        # It is never clipped: what its grid misses would come back as a residual larger than half
        # its step, and stretch the fine grid again.
        unclipped = type(self.granularity)(MinMax())
        source = weight if self.whole_kernel else centre_of(weight)
        coarse = unclipped.quantize(source, self.coarse_bits or bits)
        return coarse, add_coarse(torch.zeros_like(weight), coarse.dequantize())

    def _foretold_gain(
        self, weight: Tensor, bits: int, moment: InputMoment | None, represented: Tensor
    ) -> float:
        """What a split divides the squared error by if everything is rounded to nearest.

        That takes a thousandth of the time of rounding for the outputs. Where it cannot tell, the
        answer is the threshold.
        """
        if moment is None:
            return self.threshold  # The errors themselves are as fast.
        importance = moment.importance_of(weight)
        parts = (torch.zeros_like(weight), represented)
        error, split_error = (
            _nearest_error(weight - part, bits, self.granularity, importance) for part in parts
        )
        return error / split_error if split_error > 0 else self.threshold


def _error(weight: Tensor, quantized: QuantizedWeight, moment: InputMoment | None) -> Tensor:
    error = quantized.dequantize() - weight
    return error.square().sum() if moment is None else moment.output_error(error)


def _nearest_error(
    residual: Tensor, bits: int, granularity: PerTensor | PerChannel, importance: Tensor
) -> float:
    """The weighted squared error of rounding `residual` to nearest."""
    grid = Grid.symmetric(bits)
    scale = granularity.scale_of(residual, grid, importance)
    rounded = _nearest(residual, scale, grid) * per_row(scale, residual)
    return ((rounded - residual).double().square() * importance).sum().item()


def _nearest(values: Tensor, scale: Tensor, grid: Grid) -> Tensor:
    """The nearest integers of `grid`, as float32."""
    integers = (values * (1.0 / per_row(scale, values))).round_()
    return integers.clamp_(grid.quant_min, grid.quant_max)


def _quantize_whole(
    weight: Tensor,
    bits: int,
    granularity: PerTensor | PerChannel,
    moment: InputMoment | None = None,
    represented: Tensor | None = None,
) -> QuantizedWeight:
    """Quantize what `represented`, another part of the weight, leaves of it."""
    grid = Grid.symmetric(bits)
    weight = weight.detach().float()
    represented = torch.zeros_like(weight) if represented is None else represented
    residual = weight - represented
    importance = None if moment is None else moment.importance_of(weight)
    scale = granularity.scale_of(residual, grid, importance)
    if moment is None:
        integers = _nearest(residual, scale, grid)
    else:
        integers = compensated_rounding(weight, scale, represented, grid, moment)
    return QuantizedWeight(integers.to(torch.int8 if bits <= 8 else torch.int16), scale, bits)


def _search_scale(
    rows: Tensor, grid: Grid, rule: MinMax | LpLoss, importance: Tensor | None
) -> Tensor:
    """The best scale of each row of ``[rows, n]``: float32 ``[rows]``."""
    # What meets only zeros may be clipped.
    counted = rows if importance is None else torch.where(importance > 0, rows, 0)
    widest = (counted.abs().amax(1) / grid.quant_max).clamp_min(SMALLEST_SCALE)
    if isinstance(rule, MinMax):
        return widest
    best = search_scale(rows, widest, grid.quant_min, grid.quant_max, rule.power, importance)
    return best.clamp_min(SMALLEST_SCALE)
