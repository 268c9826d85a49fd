"""Steps that let a scale of each channel pass, and activation functions that do not."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import GraphModule, Node

from ..gathering.elementwise_function import ScaledActivation

Target = type[nn.Module] | Callable[..., Any] | str

# f(s x) = s f(x) for every s > 0, entry by entry. Absent on purpose: ReLU6 and Hardtanh clip at a
# fixed height, which a scale moves (relu6(s x) = s min(relu(x), 6 / s)).
ENTRYWISE: frozenset[Target] = frozenset({
    nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_",
    nn.LeakyReLU, F.leaky_relu, nn.PReLU,
    nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout, "contiguous",
})  # fmt: skip
# The same, within each plane of an image.
_PLANEWISE: frozenset[Target] = frozenset({
    nn.MaxPool2d, F.max_pool2d, nn.AdaptiveMaxPool2d, F.adaptive_max_pool2d,
    nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d,
    nn.Upsample, F.interpolate,
})  # fmt: skip
AVERAGES: frozenset[Target] = frozenset({
    nn.AvgPool2d, F.avg_pool2d, nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d, torch.mean, "mean",
})  # fmt: skip
RESHAPES: frozenset[Target] = frozenset(
    {nn.Flatten, torch.flatten, "flatten", torch.reshape, "reshape", "view"}
)
PRODUCTS: frozenset[Target] = frozenset(
    {operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_", "multiply"}
)

# They bend at a fixed place, so that a scale can only be put behind them. The integer kernels have
# each of them followed by one for each channel. They have none for functions that clip above, whose
# bound would be another one in each channel.
_BENDING_MODULES = (nn.SiLU, nn.Hardswish, nn.GELU)
_SCALED_MODULES = (*_BENDING_MODULES, nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Hardsigmoid)
_BENDING_FUNCTIONS: dict[Any, type[nn.Module]] = {
    F.silu: nn.SiLU, F.hardswish: nn.Hardswish, F.gelu: nn.GELU,
}  # fmt: skip


def called_by(graph_module: GraphModule, node: Node) -> Target:
    """What a node calls: a type of module, a function or a method's name."""
    if node.op == "call_module":
        module = graph_module.get_submodule(str(node.target))
        # A hook may change what the module returns.
        return nn.Module if has_hooks(module) else type(module)
    target: Target = node.target
    return target


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of `module` calls something else as well."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def passes_plane_scales(called: Target, node: Node) -> bool:
    """Whether what `node` calls, of an image, scales with each of its planes."""
    if called in (torch.mean, "mean"):
        return _averages_planes(node)
    is_pad = called is F.pad and _pads_planes_linearly(node)
    return is_pad or called in _PLANEWISE or called in AVERAGES


def bending_activation(graph_module: GraphModule, node: Node) -> nn.Module | None:
    """The activation function that `node` applies to one tensor, if scales do not pass it.

    Returns:
        The module that is called, or one that computes what the function called does.
    """
    called = called_by(graph_module, node)
    if called in _BENDING_FUNCTIONS:
        settings = {name: value for name, value in node.kwargs.items() if name != "inplace"}
        return _BENDING_FUNCTIONS[called](**settings).eval()
    if called not in (*_BENDING_MODULES, ScaledActivation):
        return None
    module = graph_module.get_submodule(str(node.target))
    is_scaled = isinstance(module, ScaledActivation)
    return None if is_scaled and type(module.activation) not in _SCALED_MODULES else module


def _averages_planes(node: Node) -> bool:
    given = dict(zip(("input", "dim", "keepdim"), node.args, strict=False)) | node.kwargs
    dim = given.get("dim")
    is_plain = not node.kwargs.keys() - {"dim", "keepdim"}
    axes = {axis % 4 for axis in dim} if isinstance(dim, list | tuple) else set()
    return is_plain and axes == {2, 3}


def _pads_planes_linearly(node: Node) -> bool:
    """Whether a call of ``F.pad`` leaves the channels of an image alone and pads no constant."""
    given = dict(zip(("input", "pad", "mode", "value"), node.args, strict=False)) | node.kwargs
    pad = given.get("pad")
    is_zero = given.get("value") in (None, 0)
    return isinstance(pad, list | tuple) and len(pad) <= 4 and is_zero
