"""A weight as integers, and what the modules that hold such weights have in common."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...reparam.coarse_fine import add_to_centre
from ..grid import SMALLEST_SCALE


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
                parts[values] = part * per_row(sign, part).to(part.dtype)
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
        fine = self.values * per_row(self.scale, self.values)
        if self.coarse_values is None or self.coarse_scale is None:
            return fine
        return add_coarse(fine, self.coarse_values * per_row(self.coarse_scale, self.coarse_values))


def add_coarse(fine: Tensor, coarse: Tensor) -> Tensor:
    """Both parts of a split weight in float, summed: the coarse one 1x1 or of the fine's shape."""
    return fine + coarse if coarse.shape == fine.shape else add_to_centre(fine, coarse)


def per_row(scale: Tensor, weight: Tensor) -> Tensor:
    """Reshape ``[out]`` or ``[1]`` to broadcast over the rows of `weight`."""
    return scale.reshape(-1, *[1] * (weight.dim() - 1))


class QuantizedModule(nn.Module):
    """Base of modules that hold integers in the place of a float layer's weights.

    Passes, which know no backend, tell by it that a model is quantized already.
    """
