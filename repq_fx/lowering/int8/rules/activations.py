"""Which operations are activation functions that follow a sum."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Node

from ....passes.gathering.elementwise_function import ScaledActivation
from ...reference_view import ReferenceView, is_read_once
from ..instructions import Activation, ChannelNumbers, Epilogue, LevelGrid


@dataclass(frozen=True)
class Follower:
    """``factor * activation(value) + offset``, or the bounds of a function that only clips.

    Attributes:
        activation: The function.
        slope: Of a leaky ReLU below zero.
        bounds: Of a function that only clips.
        factor: Of the result: one for all channels, or one for each.
        offset: What is added to it, likewise.
        channel_shape: Of one number for each channel, such that it stands beside the result.
    """

    activation: Activation = Activation.NONE
    slope: float = 0.0
    bounds: tuple[float, float] = (-math.inf, math.inf)
    factor: ChannelNumbers = 1.0
    offset: ChannelNumbers = 0.0
    channel_shape: tuple[int, ...] = (-1,)

    @property
    def only_clips(self) -> bool:
        """Whether the bounds are what it does."""
        return self.bounds != (-math.inf, math.inf)

    def before(self, grid: LevelGrid) -> Epilogue:
        """The epilogue of this function and a rounding to `grid`."""
        if self.only_clips:
            assert isinstance(self.factor, float)
            assert isinstance(self.offset, float)
            grid = grid.clipped(*sorted(self.factor * each + self.offset for each in self.bounds))
        return Epilogue(grid, self.activation, self.slope, self.factor, self.offset)

    def scaled(self, factor: float | Tensor, offset: float | Tensor) -> "Follower | None":
        """This function times `factor` plus `offset`.

        Returns:
            None where the numbers of channels stand on no axis that an instruction knows, or the
            bounds would differ from channel to channel.
        """
        numbers = [torch.as_tensor(each, dtype=torch.float64) for each in (factor, offset)]
        shapes = {each.shape for each in numbers if each.numel() > 1}
        if shapes and self.bounds == (0.0, math.inf):
            rectifier = Follower(Activation.LEAKY_RELU, slope=0.0)
            return rectifier.scaled(factor, offset)
        if len(shapes) > 1 or (shapes and self.only_clips):
            return None
        (_, *ones) = next(iter(shapes), (-1,))
        if ones not in ([], [1, 1]):
            return None
        of_factor, of_offset = (
            tuple(each.flatten().tolist()) if each.numel() > 1 else float(each) for each in numbers
        )
        return replace(self, factor=of_factor, offset=of_offset, channel_shape=(-1, *ones))


NOTHING = Follower()

_NAMES: dict[Follower, tuple[Any, ...]] = {
    Follower(bounds=(0.0, math.inf)): (nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_"),
    Follower(bounds=(0.0, 6.0)): (nn.ReLU6, F.relu6),
    Follower(Activation.SILU): (nn.SiLU, F.silu),
    Follower(Activation.HARD_SWISH): (nn.Hardswish, F.hardswish),
    Follower(Activation.HARD_SIGMOID): (nn.Hardsigmoid, F.hardsigmoid),
    Follower(Activation.SIGMOID): (nn.Sigmoid, torch.sigmoid, F.sigmoid, "sigmoid"),
}
_FIXED = {operation: follower for follower, names in _NAMES.items() for operation in names}


# Reads an argument of a call by its position behind the tensor, its name and its default.
_Read = Callable[[int, str, Any], Any]


def _hardtanh(read: _Read) -> Follower:
    return Follower(bounds=(float(read(0, "min_val", -1.0)), float(read(1, "max_val", 1.0))))


def _leaky_relu(read: _Read) -> Follower:
    return Follower(Activation.LEAKY_RELU, float(read(0, "negative_slope", 0.01)))


def _gelu(read: _Read) -> Follower:
    is_tanh = read(0, "approximate", "none") == "tanh"
    return Follower(Activation.GELU_TANH if is_tanh else Activation.GELU)


_WITH_SETTINGS: dict[Any, Callable[[_Read], Follower]] = {
    nn.Hardtanh: _hardtanh, F.hardtanh: _hardtanh,
    nn.LeakyReLU: _leaky_relu, F.leaky_relu: _leaky_relu,
    nn.GELU: _gelu, F.gelu: _gelu,
}  # fmt: skip


def follower_of(view: ReferenceView, node: Node) -> Follower | None:
    """The activation function that `node` calls, or None."""
    operation = view.operation(node)
    if operation is not ScaledActivation:
        return _follower(operation, lambda *argument: view.setting(node, *argument))
    scaled = view.module(node)
    inner = _follower(
        type(scaled.activation),
        lambda _, name, default: getattr(scaled.activation, name, default),
    )
    return None if inner is None else inner.scaled(scaled.factor, scaled.offset)


def _follower(operation: Any, read: _Read) -> Follower | None:
    if operation in _WITH_SETTINGS:
        return _WITH_SETTINGS[operation](read)
    return _FIXED.get(operation)


def peel(view: ReferenceView, quantize: Node) -> tuple[Node, Follower]:
    """What a quantize node rounds, without the activation function that follows it."""
    value = quantize.all_input_nodes[0]
    follower = follower_of(view, value)
    if follower is None or not is_read_once(value):
        return value, NOTHING
    return value.all_input_nodes[0], follower
