"""What each operator does to affine maps: the transfer functions of the region finder."""

import operator
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn import functional as F

from ..reparam import (
    ConvMap,
    MapError,
    add,
    batch_norm_scale_shift,
    from_conv2d,
    scale_channels,
    shift_channels,
)
from .affine_value import OPAQUE, AffineValue, Call, called_conv2d, called_module

Rule = Callable[[Call], AffineValue]


def apply_rule(call: Call) -> AffineValue:
    """The value of a node from the values of its operands, without its view of itself."""
    node = call.node
    rule: Rule | None = None
    if "out" in node.kwargs:
        return OPAQUE  # overwrites yet another tensor
    if node.op == "call_module":
        module = called_module(call.graph_module, node)
        rule = None if module is None else _MODULE_RULES.get(type(module))
    elif node.op == "call_function" and callable(node.target):
        rule = _FUNCTION_RULES.get(node.target)
    elif node.op == "call_method":
        rule = _METHOD_RULES.get(str(node.target))
    return OPAQUE if rule is None else rule(call)


def _mapped(
    views: Iterable[tuple[Node, ConvMap]], function: Callable[[Node, ConvMap], ConvMap]
) -> AffineValue:
    """Apply `function` to each view, and note which sources it refuses."""
    mapped: dict[Node, ConvMap] = {}
    refusals: dict[Node, str] = {}
    for source, view in views:
        try:
            mapped[source] = function(source, view)
        except MapError as error:
            refusals[source] = str(error)
    return AffineValue(mapped, refusals)


def _conv2d(call: Call) -> AffineValue:
    source = call.arguments("input")["input"]
    conv = called_conv2d(call.graph_module, call.node)
    if conv is None or source not in call.shapes:
        return OPAQUE
    return AffineValue({source: from_conv2d(conv, call.device)})


def _batch_norm_module(call: Call) -> AffineValue:
    module = call.graph_module.get_submodule(str(call.node.target))
    if not isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm) or module.training:
        return OPAQUE
    statistics = (module.running_mean, module.running_var, module.weight, module.bias)
    return _normalized(call, call.arguments("input")["input"], statistics, module.eps)


def _batch_norm_function(call: Call) -> AffineValue:
    tensors = ("running_mean", "running_var", "weight", "bias")
    bound = call.arguments("input", *tensors, "training", "momentum", "eps")
    operands = [bound.get(name) for name in tensors]
    statistics = [call.constant(operand) for operand in operands]
    is_computed = any(
        operand is not None and constant is None
        for operand, constant in zip(operands, statistics, strict=True)
    )
    if is_computed or bound.get("training", False):
        return OPAQUE
    return _normalized(call, bound["input"], statistics, bound.get("eps", 1e-5))


def _normalized(
    call: Call, operand: Any, statistics: Iterable[Tensor | None], eps: float
) -> AffineValue:
    mean, variance, weight, bias = statistics
    if mean is None or variance is None:  # normalizes with the batch's own statistics
        return OPAQUE
    scale, shift = batch_norm_scale_shift(mean, variance, weight, bias, eps, call.device)
    return _mapped(
        call.views(operand).items(),
        lambda _, view: shift_channels(scale_channels(view, scale), shift),
    )


def _unchanged(call: Call) -> AffineValue:
    return AffineValue(call.views(call.arguments("input")["input"]))


def _dropout_function(call: Call) -> AffineValue:
    bound = call.arguments("input", "p", "training")
    return OPAQUE if bound.get("training", True) else AffineValue(call.views(bound["input"]))


def _sum(call: Call) -> AffineValue:
    return _weighted_sum(call, 1)


def _difference(call: Call) -> AffineValue:
    return _weighted_sum(call, -1)


def _weighted_sum(call: Call, sign: int) -> AffineValue:
    bound = call.arguments("input", "other")
    left, right = bound["input"], bound["other"]
    if not _is_number(bound.get("alpha", 1)):
        return OPAQUE
    factor = sign * bound.get("alpha", 1)
    if _is_number(right):
        return _mapped(
            call.views(left).items(), lambda _, view: shift_channels(view, factor * right)
        )
    scaled = _mapped(call.views(right).items(), lambda _, view: scale_channels(view, factor)).views
    if _is_number(left):
        return _mapped(scaled.items(), lambda _, view: shift_channels(view, left))
    if not (call.shape(left) == call.shape(right) == call.shape(call.node)):
        return OPAQUE  # one operand is broadcast
    common = [(source, view) for source, view in call.views(left).items() if source in scaled]
    return _mapped(common, lambda source, view: add(view, scaled[source]))


def _product(call: Call) -> AffineValue:
    bound = call.arguments("input", "other")
    left, right = bound["input"], bound["other"]
    if _is_number(left):
        left, right = right, left
    if not _is_number(right):
        return OPAQUE
    return _mapped(call.views(left).items(), lambda _, view: scale_channels(view, right))


def _negative(call: Call) -> AffineValue:
    operand = call.arguments("input")["input"]
    return _mapped(call.views(operand).items(), lambda _, view: scale_channels(view, -1))


def _is_number(operand: Any) -> bool:
    return isinstance(operand, int | float) and not isinstance(operand, bool)


def _in_place(rule: Rule) -> Rule:
    """The rule of an operator that overwrites its first operand, which then is no source."""

    def apply(call: Call) -> AffineValue:
        value = rule(call)
        views = {s: view for s, view in value.views.items() if s is not call.node.args[0]}
        return AffineValue(views, value.refusals)

    return apply


_MODULE_RULES: Mapping[type[nn.Module], Rule] = MappingProxyType(
    {
        nn.Conv2d: _conv2d,
        nn.BatchNorm2d: _batch_norm_module,
        nn.SyncBatchNorm: _batch_norm_module,
        nn.Identity: _unchanged,
        nn.Dropout: _unchanged,
        nn.Dropout2d: _unchanged,
        nn.AlphaDropout: _unchanged,
        nn.FeatureAlphaDropout: _unchanged,
    }
)
_FUNCTION_RULES: Mapping[Callable[..., Any], Rule] = MappingProxyType(
    {
        F.batch_norm: _batch_norm_function,
        F.dropout: _dropout_function,
        operator.add: _sum,
        operator.iadd: _in_place(_sum),
        torch.add: _sum,
        operator.sub: _difference,
        operator.isub: _in_place(_difference),
        torch.sub: _difference,
        operator.mul: _product,
        operator.imul: _in_place(_product),
        torch.mul: _product,
        operator.neg: _negative,
        torch.neg: _negative,
    }
)
_METHOD_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "add": _sum,
        "add_": _in_place(_sum),
        "sub": _difference,
        "sub_": _in_place(_difference),
        "mul": _product,
        "mul_": _in_place(_product),
        "neg": _negative,
        "neg_": _in_place(_negative),
    }
)
