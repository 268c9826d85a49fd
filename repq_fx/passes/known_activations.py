"""Activation functions of `torch.nn` behind the arithmetic that a model writes for them."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from .elementwise_function import ScaledActivation

Function = Callable[[Tensor], Tensor]

_FIXED = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.GELU)
_FAR = 1e6  # Where functions have become straight lines.
_USUAL = 6.0  # Up to where most activations lie.
_TOLERANCE = 2e-6  # Relative: a model's constants are float32.


def known_activation(function: Function) -> nn.Module | None:
    """The layer of `torch.nn`, scaled and shifted where need be, that computes `function`.

    It is recognised by its values in float64, so that it does not matter how it is written.

    Args:
        function: Of each element alone.

    Returns:
        None for a function that is none of them, or is a straight line.
    """
    points = torch.cat([torch.linspace(-12, 12, 1921), torch.linspace(-100, 100, 401)]).double()
    values = function(points)
    if not values.isfinite().all() or values.min() == values.max():
        return None
    for activation in _candidates(function, points):
        found = _fitted(activation, points, values)
        if found is not None:
            return found
    return None


def _candidates(function: Function, points: Tensor) -> Iterator[nn.Module]:
    for kind in _FIXED:
        yield kind()
    yield nn.GELU("tanh")
    yield from _clips(function, points)
    left, middle, right = function(torch.tensor([-1.0, 0.0, 1.0]).double()).tolist()
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


def _fitted(activation: nn.Module, points: Tensor, values: Tensor) -> nn.Module | None:
    basis = torch.stack([activation(points.clone()), torch.ones_like(points)], dim=1)
    factor, offset = torch.linalg.lstsq(basis, values[:, None]).solution.flatten().tolist()
    errors = (basis @ torch.tensor([factor, offset]).double() - values).abs()
    usual = values[points.abs() <= _USUAL].abs().max()
    if not (errors <= _TOLERANCE * (values.abs() + usual)).all():  # So that NaN is refused.
        return None
    if abs(factor - 1) <= _TOLERANCE and abs(offset) <= _TOLERANCE:
        return activation
    return ScaledActivation(activation, factor, offset)
