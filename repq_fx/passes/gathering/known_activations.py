"""Activation functions of `torch.nn` behind the arithmetic that a model writes for them."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from .elementwise_function import ScaledActivation

Function = Callable[[Tensor], Tensor]

_FIXED_UNCLIPPED = (nn.ReLU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.GELU)
_FIXED = (*_FIXED_UNCLIPPED, nn.ReLU6)
_FAR = 1e6  # Where functions have become straight lines.
_USUAL = 6.0  # Up to where most activations lie.
_TOLERANCE = 2e-6  # Relative: a model's constants are float32.


def known_activation(function: Function, channels: int | None = None) -> nn.Module | None:
    """The layer of `torch.nn`, scaled and shifted where need be, that computes `function`.

    It is recognised by its values in float64, so that it does not matter how it is written.

    Args:
        function: Of each element alone, or of each element of an image in the way of its channel.
        channels: How many channels it tells apart; None if it treats all alike.

    Returns:
        None for a function that is none of them, or is a straight line. What differs from channel
        to channel may be the scale and the shift, ``[channels, 1, 1]`` in float64.
    """
    points = torch.cat([torch.linspace(-12, 12, 1921), torch.linspace(-100, 100, 401)]).double()
    values = _values(function, points, channels)
    if not values.isfinite().all() or (values.amin(0) == values.amax(0)).any():
        return None
    for activation in _candidates(function, points, channels):
        found = _fitted(activation, points, values)
        if found is None:
            continue
        factor, offset = found
        if _differ(factor, factor) or _differ(offset, factor):
            return ScaledActivation(activation, factor.view(-1, 1, 1), offset.view(-1, 1, 1))
        if abs(float(factor[0]) - 1) <= _TOLERANCE and abs(float(offset[0])) <= _TOLERANCE:
            return activation
        return ScaledActivation(activation, float(factor[0]), float(offset[0]))
    return None


def _differ(values: Tensor, unit: Tensor) -> bool:
    """Whether values of channels differ, measured by what the channel's function is scaled by."""
    return bool(((values - values[0]).abs() > _TOLERANCE * (unit.abs() + values.abs())).any())


def _values(function: Function, points: Tensor, channels: int | None) -> Tensor:
    """What `function` makes of each point, a column for each channel."""
    if channels is None:
        return function(points.clone()).double()[:, None]
    images = points[:, None, None, None].expand(-1, channels, 1, 1)
    return function(images.clone()).double().flatten(1)


def _candidates(function: Function, points: Tensor, channels: int | None) -> Iterator[nn.Module]:
    # Where channels differ, a function that clips above has bounds of each channel then, for which
    # the integer kernels have no form.
    for kind in _FIXED if channels is None else _FIXED_UNCLIPPED:
        yield kind()
    yield nn.GELU("tanh")
    if channels is None:
        yield from _clips(function, points)
    ends = torch.tensor([-1.0, 0.0, 1.0]).double()
    left, middle, right = _values(function, ends, channels)[:, 0].tolist()
    if right != middle:
        slope = (middle - left) / (right - middle)
        if abs(slope - 1) > _TOLERANCE:
            yield nn.LeakyReLU(slope)


def _clips(function: Function, points: Tensor) -> Iterator[nn.Hardtanh]:
    """The clipping that a straight line between two constants is, or a line that ends in one."""
    ordered = points.sort().values.unique()
    values = function(ordered)
    slopes = values.diff() / ordered.diff()
    steepest = int(slopes.abs().argmax())
    slope = float(slopes[steepest])
    if slope == 0:
        return
    at, value = float(ordered[steepest]), float(values[steepest])
    ends = function(torch.tensor([-_FAR, _FAR]).double()).tolist()
    lowest, highest = (at + (end - value) / slope for end in ends)
    # An end that is no constant lies on the line itself.
    lowest = -math.inf if lowest < -_FAR / 2 else lowest
    highest = math.inf if highest > _FAR / 2 else highest
    narrowest = float(ordered.diff().max())  # Anything that jumps is one between two points.
    if lowest + narrowest < highest and math.isfinite(lowest) | math.isfinite(highest):
        yield nn.Hardtanh(lowest, highest)


def _fitted(activation: nn.Module, points: Tensor, values: Tensor) -> tuple[Tensor, Tensor] | None:
    """By what the columns of `values` scale and shift `activation`, if they do nothing else."""
    basis = torch.stack([activation(points.clone()), torch.ones_like(points)], dim=1)
    solution = torch.linalg.lstsq(basis, values).solution
    errors = (basis @ solution - values).abs()
    usual = values[points.abs() <= _USUAL].abs().amax(0)
    if not (errors <= _TOLERANCE * (values.abs() + usual)).all():  # So that NaN is refused.
        return None
    return solution[0], solution[1]
