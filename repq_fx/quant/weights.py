"""Weight quantizers: per tensor, per channel, and coarse & fine splitting on top of either."""

from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..ops import search_scale
from ..reparam.coarse_fine import add_to_centre, centre_of
from .gptq import InputMoment, compensated_rounding
from .grid import SMALLEST_SCALE, Grid
from .range_rules import MSE, LpLoss, MinMax


@dataclass(frozen=True)
class QuantizedWeight:
    """Integers and scales of one layer's weight, symmetric around 0.

    Attributes:
        values: ``[out, ...]``, int8 (int16 above 8 bits).
        scale: float32, ``[out]`` per channel or ``[1]`` per tensor.
        bits: Width of `values`.
        coarse_values: ``[out, in/groups, 1, 1]``, added at the centre tap, or of the shape of
            `values`, added everywhere; None without a split.
        coarse_scale: float32, ``[out]`` or ``[1]``; None without a split.
        coarse_bits: Width of `coarse_values`; 0 without a split.
    """

    values: Tensor
    scale: Tensor
    bits: int
    coarse_values: Tensor | None = None
    coarse_scale: Tensor | None = None
    coarse_bits: int = 0

    def scaled(self, gain: Tensor) -> "QuantizedWeight":
        """The weight times ``gain[out]``, with the same integers up to their sign: exact.

        Symmetric grids are closed under a change of sign, so nothing is rounded again.
        """
        sign, size = torch.where(gain < 0, -1, 1), gain.abs().clamp_min(SMALLEST_SCALE)
        parts = {}
        for values, scale in (("values", "scale"), ("coarse_values", "coarse_scale")):
            part = getattr(self, values)
            if part is not None:
                parts[values] = part * _per_row(sign, part).to(part.dtype)
                parts[scale] = (getattr(self, scale) * size).clamp_min(SMALLEST_SCALE)
        return replace(self, **parts)

    def to(self, device: torch.device) -> "QuantizedWeight":
        """The same on another device."""
        coarse = (self.coarse_values, self.coarse_scale)
        values, scale = (None if part is None else part.to(device) for part in coarse)
        return replace(
            self, values=self.values.to(device), scale=self.scale.to(device),
            coarse_values=values, coarse_scale=scale,
        )  # fmt: skip

    def dequantize(self) -> Tensor:
        """The float32 weight that these integers stand for."""
        fine = self.values * _per_row(self.scale, self.values)
        if self.coarse_values is None or self.coarse_scale is None:
            return fine
        return add_coarse(
            fine, self.coarse_values * _per_row(self.coarse_scale, self.coarse_values)
        )


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
        whole = self.granularity.quantize(weight, bits, moment)
        if weight.dim() != 4 or any(side % 2 == 0 or side < 3 for side in weight.shape[2:]):
            return whole
        split = self._split(weight, bits, moment)
        error, split_error = (_error(weight, part, moment) for part in (whole, split))
        return split if error >= self.threshold * split_error and error > 0 else whole

    def _split(self, weight: Tensor, bits: int, moment: InputMoment | None) -> QuantizedWeight:
        # The coarse part is never clipped: what its grid misses would come back as a residual
        # larger than half its step, and stretch the fine grid again.
        unclipped = type(self.granularity)(MinMax())
        source = weight if self.whole_kernel else centre_of(weight)
        coarse = unclipped.quantize(source, self.coarse_bits or bits)
        represented = add_coarse(torch.zeros_like(weight), coarse.dequantize())
        fine = _quantize_whole(weight, bits, self.granularity, moment, represented)
        return replace(
            fine, coarse_values=coarse.values, coarse_scale=coarse.scale, coarse_bits=coarse.bits
        )


def add_coarse(fine: Tensor, coarse: Tensor) -> Tensor:
    """Both parts of a split weight in float, summed: the coarse one 1x1 or of the fine's shape."""
    return fine + coarse if coarse.shape == fine.shape else add_to_centre(fine, coarse)


def _error(weight: Tensor, quantized: QuantizedWeight, moment: InputMoment | None) -> Tensor:
    error = quantized.dequantize() - weight
    return error.square().sum() if moment is None else moment.output_error(error)


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
        integers = (residual * (1.0 / _per_row(scale, weight))).round_()
        integers = integers.clamp_(grid.quant_min, grid.quant_max)
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


def _per_row(scale: Tensor, weight: Tensor) -> Tensor:
    """Reshape ``[out]`` or ``[1]`` to broadcast over the rows of `weight`."""
    return scale.reshape(-1, *[1] * (weight.dim() - 1))
