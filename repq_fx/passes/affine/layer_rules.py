"""Transfer functions of layers: convolutions, linear layers, normalization, pooling."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...reparam import (
    ConvMap,
    Geometry,
    MapError,
    average,
    batch_norm_scale_shift,
    compose,
    conv_map,
    from_conv,
    from_linear,
    scale_channels,
    shift_channels,
)
from .value import OPAQUE, AffineValue, Call, Rule, Source, View

_POOL_ARGUMENTS = (
    "input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad",
    "divisor_override",
)  # fmt: skip


def _conv_module(call: Call) -> AffineValue:
    return _convolved(call, call.arguments("input")["input"], from_conv(call.module, call.device))


def _conv_function(call: Call) -> AffineValue:
    bound = call.arguments("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    return _function_of_weights(call, bound, is_transposed=False)


def _transposed_conv_function(call: Call) -> AffineValue:
    bound = call.arguments(
        "input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"
    )
    return _function_of_weights(call, bound, is_transposed=True)


def _function_of_weights(call: Call, bound: dict[str, Any], *, is_transposed: bool) -> AffineValue:
    weight, bias = (call.constant(bound.get(name)) for name in ("weight", "bias"))
    if weight is None or call.is_computed(bound.get("bias")):
        return OPAQUE
    axes = weight.ndim - 2
    padding = bound.get("padding", 0)
    geometry = Geometry(
        _each_axis(bound.get("stride", 1), axes),
        padding if isinstance(padding, str) else _each_axis(padding, axes),
        _each_axis(bound.get("dilation", 1), axes), bound.get("groups", 1),
        output_padding=_each_axis(bound.get("output_padding", 0), axes) if is_transposed else None,
    )  # fmt: skip
    return _convolved(call, bound["input"], conv_map(weight, bias, geometry, call.device))


def _convolved(call: Call, operand: Any, layer: ConvMap) -> AffineValue:
    shape = call.shape(operand)
    if shape is None or len(shape) != layer.spatial_dims + 2:
        return OPAQUE  # an image without a batch axis
    return call.value(operand).map(lambda source, view: _after(layer, operand, source, view, 1))


def _linear_module(call: Call) -> AffineValue:
    return _projected(call, call.arguments("input")["input"], call.module.weight, call.module.bias)


def _linear_function(call: Call) -> AffineValue:
    bound = call.arguments("input", "weight", "bias")
    weight, bias = (call.constant(bound.get(name)) for name in ("weight", "bias"))
    if weight is None or weight.ndim != 2 or call.is_computed(bound.get("bias")):
        return OPAQUE
    return _projected(call, bound["input"], weight, bias)


def _projected(call: Call, operand: Any, weight: Tensor, bias: Tensor | None) -> AffineValue:
    shape = call.shape(operand)
    if shape is None:
        return OPAQUE
    layer = from_linear(weight, bias, len(shape) - 2, call.device)
    last = len(shape) - 1
    return call.value(operand).map(lambda source, view: _after(layer, operand, source, view, last))


def _after(layer: ConvMap, operand: Any, source: Source, view: View, axis: int) -> View:
    if view.channel_axis != axis:
        raise MapError(f"a layer takes axis {axis} for channels, not axis {view.channel_axis}")
    # The identity of the operand needs no composition, which is stricter about borders.
    return view.then(lambda known: layer if source.node is operand else compose(layer, known))


def _batch_norm_module(call: Call) -> AffineValue:
    module = call.module
    if module.training:
        return OPAQUE
    statistics = (module.running_mean, module.running_var, module.weight, module.bias)
    return _normalized(call, call.arguments("input")["input"], statistics, module.eps)


def _batch_norm_function(call: Call) -> AffineValue:
    tensors = ("running_mean", "running_var", "weight", "bias")
    bound = call.arguments("input", *tensors, "training", "momentum", "eps")
    operands = [bound.get(name) for name in tensors]
    if any(call.is_computed(operand) for operand in operands) or bound.get("training", False):
        return OPAQUE
    statistics = [call.constant(operand) for operand in operands]
    return _normalized(call, bound["input"], statistics, bound.get("eps", 1e-5))


def _normalized(
    call: Call, operand: Any, statistics: Iterable[Tensor | None], eps: float
) -> AffineValue:
    mean, variance, weight, bias = statistics
    if mean is None or variance is None:  # normalizes with the batch's own statistics
        return OPAQUE
    scale, shift = batch_norm_scale_shift(mean, variance, weight, bias, eps, call.device)

    def normalize(_: Source, view: View) -> View:
        if view.channel_axis != 1:
            raise MapError(f"a normalization takes axis 1 for channels, not {view.channel_axis}")
        return view.then(lambda known: shift_channels(scale_channels(known, scale), shift))

    return call.value(operand).map(normalize)


def _average_pool_module(call: Call) -> AffineValue:
    module = call.module
    options = {name: getattr(module, name, None) for name in _POOL_ARGUMENTS[1:]}
    return _pooled(call, call.arguments("input")["input"], options)


def _average_pool_function(call: Call) -> AffineValue:
    bound = call.arguments(*_POOL_ARGUMENTS)
    return _pooled(call, bound["input"], bound)


def _pooled(call: Call, operand: Any, options: Mapping[str, Any]) -> AffineValue:
    shape = call.shape(operand)
    if shape is None:
        return OPAQUE
    axes = len(shape) - 2
    taps = _each_axis(options["kernel_size"], axes)
    stride = _each_axis(options.get("stride") or taps, axes)
    padding = _each_axis(options.get("padding", 0), axes)
    divisor = options.get("divisor_override")

    def pool(source: Source, view: View) -> View:
        if options.get("ceil_mode"):
            raise MapError("its pooling rounds the output size up")
        if any(padding) and divisor is None and not options.get("count_include_pad", True):
            raise MapError("its pooling leaves the border out of its averages")
        layer = average(shape[1], taps, stride, padding, divisor, call.device)
        return _after(layer, operand, source, view, 1)

    return call.value(operand).map(pool)


def _unchanged(call: Call) -> AffineValue:
    return call.value(call.arguments("input")["input"])


def _stored(call: Call) -> AffineValue:
    """What asks for an order in memory, which a permutation after the layer would not keep."""

    def store(source: Source, view: View) -> View:
        if view.channel_axis != source.channel_axis:
            raise MapError("it stores what a permutation moved")
        return view

    return call.value(call.arguments("input")["input"]).map(store)


def _dropout_function(call: Call) -> AffineValue:
    bound = call.arguments("input", "p", "training")
    return OPAQUE if bound.get("training", True) else _unchanged(call)


def _leaky_relu_module(call: Call) -> AffineValue:
    return _unchanged(call) if call.module.negative_slope == 1 else OPAQUE


def _leaky_relu_function(call: Call) -> AffineValue:
    slope = call.arguments("input", "negative_slope").get("negative_slope", 0.01)
    return _unchanged(call) if slope == 1 else OPAQUE


def _prelu_module(call: Call) -> AffineValue:
    return _unchanged(call) if bool((call.module.weight == 1).all()) else OPAQUE


def _each_axis(amount: Any, axes: int) -> tuple[int, ...]:
    if isinstance(amount, int):
        return (amount,) * axes
    amounts = tuple(amount)
    return amounts * axes if len(amounts) == 1 else amounts


CONV_MODULES = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED_CONV_MODULES = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LINEAR = (nn.Linear, F.linear)
CONV_FUNCTIONS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED_CONV_FUNCTIONS = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_DROPOUTS = (
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_POOL_FUNCTIONS: tuple[Any, ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)

MODULE_RULES: Mapping[type[nn.Module], Rule] = MappingProxyType(
    {
        **dict.fromkeys((*CONV_MODULES, *TRANSPOSED_CONV_MODULES), _conv_module),
        **dict.fromkeys(_NORMS, _batch_norm_module),
        **dict.fromkeys((nn.Identity, *_DROPOUTS), _unchanged),
        **dict.fromkeys(_POOLS, _average_pool_module),
        nn.Linear: _linear_module,
        nn.LeakyReLU: _leaky_relu_module,
        nn.PReLU: _prelu_module,
    }
)
FUNCTION_RULES: Mapping[Callable[..., Any], Rule] = MappingProxyType(
    {
        **dict.fromkeys(CONV_FUNCTIONS, _conv_function),
        **dict.fromkeys(TRANSPOSED_CONV_FUNCTIONS, _transposed_conv_function),
        **dict.fromkeys(_POOL_FUNCTIONS, _average_pool_function),
        F.linear: _linear_function,
        F.batch_norm: _batch_norm_function,
        F.dropout: _dropout_function,
        F.leaky_relu: _leaky_relu_function,
        torch.clone: _stored,
    }
)
METHOD_RULES: Mapping[str, Rule] = MappingProxyType(dict.fromkeys(("clone", "contiguous"), _stored))
