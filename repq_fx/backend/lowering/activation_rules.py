"""Which operations are activation functions that follow a sum."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import Node

from ..int8 import Activation, Epilogue, LevelGrid
from .reference_view import ReferenceView, is_read_once


@dataclass(frozen=True)
class Follower:
    """An activation function, or the bounds of one that only clips."""

    activation: Activation = Activation.NONE
    slope: float = 0.0
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def before(self, grid: LevelGrid) -> Epilogue:
        """The epilogue of this function and a rounding to `grid`."""
        return Epilogue(grid.clipped(*self.bounds), self.activation, self.slope)


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


def _hardtanh(view: ReferenceView, node: Node) -> Follower:
    lowest = view.setting(node, 0, "min_val", -1.0)
    return Follower(bounds=(float(lowest), float(view.setting(node, 1, "max_val", 1.0))))


def _leaky_relu(view: ReferenceView, node: Node) -> Follower:
    slope = view.setting(node, 0, "negative_slope", 0.01)
    return Follower(Activation.LEAKY_RELU, float(slope))


def _gelu(view: ReferenceView, node: Node) -> Follower:
    is_tanh = view.setting(node, 0, "approximate", "none") == "tanh"
    return Follower(Activation.GELU_TANH if is_tanh else Activation.GELU)


_WITH_SETTINGS: dict[Any, Callable[[ReferenceView, Node], Follower]] = {
    nn.Hardtanh: _hardtanh, F.hardtanh: _hardtanh,
    nn.LeakyReLU: _leaky_relu, F.leaky_relu: _leaky_relu,
    nn.GELU: _gelu, F.gelu: _gelu,
}  # fmt: skip


def follower_of(view: ReferenceView, node: Node) -> Follower | None:
    """The activation function that `node` calls, or None."""
    operation = view.operation(node)
    if operation in _WITH_SETTINGS:
        return _WITH_SETTINGS[operation](view, node)
    return _FIXED.get(operation)


def peel(view: ReferenceView, quantize: Node) -> tuple[Node, Follower]:
    """What a quantize node rounds, without the activation function that follows it."""
    value = quantize.all_input_nodes[0]
    follower = follower_of(view, value)
    if follower is None or not is_read_once(value):
        return value, NOTHING
    return value.all_input_nodes[0], follower
