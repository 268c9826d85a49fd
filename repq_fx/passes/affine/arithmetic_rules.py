"""Transfer functions of sums, and of products and quotients with constants."""

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ...reparam import MapError, in_float64, scale_channels, shift_channels
from .value import OPAQUE, AffineValue, Call, Rule, Source, View


def _sum(call: Call) -> AffineValue:
    return _weighted_sum(call, 1)


def _difference(call: Call) -> AffineValue:
    return _weighted_sum(call, -1)


def _weighted_sum(call: Call, sign: int) -> AffineValue:
    bound = call.arguments("input", "other")
    left, right = bound["input"], bound["other"]
    factor = bound.get("alpha", 1)
    if not _is_number(factor):
        return OPAQUE
    factor = factor * sign
    if _is_constant(call, right):
        return _shifted(call, left, call.value(left), right, factor)
    scaled = call.value(right).map(
        lambda _, view: view.then(lambda known: scale_channels(known, factor))
    )
    if _is_constant(call, left):
        return _shifted(call, right, scaled, left, 1)
    if not (call.shape(left) == call.shape(right) == call.shape(call.node)):
        return OPAQUE  # one operand is broadcast
    return call.value(left).plus(scaled)


def _shifted(
    call: Call, operand: Any, value: AffineValue, constant: Any, factor: float
) -> AffineValue:
    if call.shape(operand) != call.shape(call.node):
        return OPAQUE  # the operand is broadcast to the constant

    def shift(_: Source, view: View) -> View:
        amount = _by_channel(call, view, constant) * factor
        return view.then(lambda known: shift_channels(known, amount))

    return value.map(shift)


def _product(call: Call) -> AffineValue:
    bound = call.arguments("input", "other")
    left, right = bound["input"], bound["other"]
    if _is_constant(call, left):
        left, right = right, left
    return _scaled(call, left, right, lambda factor: factor)


def _quotient(call: Call) -> AffineValue:
    bound = call.arguments("input", "other")
    if bound.get("rounding_mode") is not None:
        return OPAQUE
    return _scaled(call, bound["input"], bound["other"], lambda divisor: 1 / divisor)


def _scaled(
    call: Call, operand: Any, constant: Any, to_factor: Callable[[Any], Any]
) -> AffineValue:
    if not _is_constant(call, constant) or call.shape(operand) != call.shape(call.node):
        return OPAQUE

    def scale(_: Source, view: View) -> View:
        factor = to_factor(_by_channel(call, view, constant))
        return view.then(lambda known: scale_channels(known, factor))

    return call.value(operand).map(scale)


def _negative(call: Call) -> AffineValue:
    operand = call.arguments("input")["input"]
    return call.value(operand).map(
        lambda _, view: view.then(lambda known: scale_channels(known, -1))
    )


def _is_number(operand: Any) -> bool:
    return isinstance(operand, int | float) and not isinstance(operand, bool)


def _is_constant(call: Call, operand: Any) -> bool:
    return _is_number(operand) or call.constant(operand) is not None


def _by_channel(call: Call, view: View, operand: Any) -> Tensor | float:
    """A constant operand as one number, or as ``[channels]`` of a view.

    Raises:
        MapError: It differs along another axis than that of the channels.
    """
    constant = call.constant(operand)
    if constant is None:
        return float(operand)
    trailing = view.map.spatial_dims + 2 - view.channel_axis  # the channel axis, from the end
    others = [size for axis, size in enumerate(constant.shape) if constant.ndim - axis != trailing]
    if any(size != 1 for size in others):
        raise MapError(f"a constant of shape {list(constant.shape)} differs within a channel")
    return in_float64(constant, call.device).reshape(-1)


def _in_place(rule: Rule) -> Rule:
    """The rule of an operator that overwrites its first operand, which then is no source."""

    def apply(call: Call) -> AffineValue:
        value = rule(call)
        views = {s: view for s, view in value.views.items() if s.node is not call.node.args[0]}
        return AffineValue(views, value.refusals)

    return apply


FUNCTION_RULES: Mapping[Callable[..., Any], Rule] = MappingProxyType(
    {
        operator.add: _sum,
        operator.iadd: _in_place(_sum),
        torch.add: _sum,
        operator.sub: _difference,
        operator.isub: _in_place(_difference),
        torch.sub: _difference,
        operator.mul: _product,
        operator.imul: _in_place(_product),
        torch.mul: _product,
        operator.truediv: _quotient,
        operator.itruediv: _in_place(_quotient),
        torch.div: _quotient,
        operator.neg: _negative,
        torch.neg: _negative,
    }
)
METHOD_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "add": _sum,
        "add_": _in_place(_sum),
        "sub": _difference,
        "sub_": _in_place(_difference),
        "mul": _product,
        "mul_": _in_place(_product),
        "div": _quotient,
        "div_": _in_place(_quotient),
        "neg": _negative,
        "neg_": _in_place(_negative),
    }
)
