"""What to divide the channels of a tensor by, so that one grid suits all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .layer_channels import (
    WeightedLayer,
    at_weights,
    exact_parameters,
    is_depthwise,
    largest_weights,
)
from .layer_statistics import InputStatistics

# A range or weight below this part of its layer's largest counts as this part: merged networks hold
# channels of 1e-24, and the factor that would even them out destroys the rest of the precision.
_FLOOR = 1e-4
_MIGRATIONS = (0.0, 0.15, 0.3, 0.5, 0.7, 1.0)


@dataclass(frozen=True)
class Readers:
    """The layers that read the channels of one tensor, and what the channels hold.

    Attributes:
        layers: At least one.
        channels: Of the calibration data.
    """

    layers: Sequence[WeightedLayer]
    channels: InputStatistics

    @property
    def are_depthwise(self) -> bool:
        """Whether each output channel of each reads one channel, so that its scale can follow."""
        return all(map(is_depthwise, self.layers))

    def factors(self, migration: float) -> Tensor:
        """One for each channel, in float64.

        With the range r of a channel and the largest weight w that reads it, r where every reader
        is depthwise, and r^migration / w^(1 - migration) where one mixes channels.

        Scales of tensors and of output channels ignore a common factor. It is chosen so that the
        geometric mean is 1, which keeps activations and weights near their magnitude; a largest
        factor of 1 would blow up one channel after the other.
        """
        ranges = self._ranges()
        is_alive = _is_alive(ranges)
        largest = torch.stack([largest_weights(layer) for layer in self.layers]).amax(0)
        factors = _floored(ranges)
        if not self.are_depthwise:
            factors = factors**migration / _floored(largest) ** (1 - migration)
        # Of a channel without values the data does not tell the range, and unseen data may wake it.
        if not is_alive.any() or not largest.any():
            return torch.ones_like(factors)
        typical = factors[is_alive].log().mean().exp()
        return torch.where(is_alive, factors / typical, 1)

    def quietest_factors(self, weight_bits: int, activation_bits: int) -> Tensor:
        """Those of several migrations, or 1, of which rounding is expected to disturb least."""
        candidates = [torch.ones_like(self.channels.power), *map(self.factors, _MIGRATIONS)]
        noise = [self._noise(factors, weight_bits, activation_bits) for factors in candidates]
        return candidates[noise.index(min(noise))]

    def _ranges(self) -> Tensor:
        """Of each channel the width of the narrowest grid that holds it and has the shape of all.

        One grid serves all channels, so that zero has the same place in it: its part below zero is
        so many times as wide as that above, whatever values a channel has. It is the ratio for
        which the grids of the channels, scaled for each, are narrowest in the geometric mean.
        """
        below, above = -self.channels.lowest.clamp(max=0), self.channels.highest.clamp(min=0)
        magnitude = torch.maximum(below, above)
        is_alive = _is_alive(magnitude)
        if not is_alive.any():
            return magnitude
        ratios = torch.logspace(-3, 3, 61, dtype=torch.float64)[:, None]
        widths = torch.maximum(above, below / ratios) * (1 + ratios)
        best = widths[:, is_alive].log().mean(1).argmin()
        return widths[best]

    def _noise(self, factors: Tensor, weight_bits: int, activation_bits: int) -> float:
        """What rounding adds to the outputs of the readers, in parts of their power.

        Rounding errors count as independent, of a twelfth of a squared step; a tensor has the steps
        of its largest value, and so has each output channel of a weight.
        """
        below, above = -self.channels.lowest.clamp(max=0), self.channels.highest.clamp(min=0)
        step = ((below / factors).max() + (above / factors).max()) / (2**activation_bits - 1)
        noise = 0.0
        for layer in self.layers:
            weight, _ = exact_parameters(layer)
            scaled = weight * at_weights(layer, factors)
            steps = scaled.flatten(1).abs().amax(1) / (2 ** (weight_bits - 1) - 1)
            power = at_weights(layer, self.channels.power / factors.square()).expand_as(scaled)
            of_input = step.square() * scaled.square().sum()
            of_weight = (steps.square() * power.flatten(1).sum(1)).sum()
            signal = (power * scaled.square()).sum().clamp(min=torch.finfo(torch.float64).tiny)
            noise += float((of_input + of_weight) / signal)
        return noise


def _is_alive(ranges: Tensor) -> Tensor:
    return ranges > torch.finfo(torch.float32).eps * ranges.amax()


def _floored(values: Tensor) -> Tensor:
    return values.clamp(min=float(values.amax()) * _FLOOR)
