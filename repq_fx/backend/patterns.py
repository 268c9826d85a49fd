"""What a backend may quantize, as tables that `get_backend_config` reads."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..passes.gathering.elementwise_function import ElementwiseFunction, ScaledActivation

Target = type[nn.Module] | Callable[..., Any] | str

# Fused behind a convolution, linear layer or sum: nothing is quantized in between, and the observer
# sits on the output of the activation function ("ReLU fusion" in the CFWS paper).
ACTIVATION_FUNCTIONS: tuple[Target, ...] = (
    nn.ReLU, F.relu, torch.relu, torch.relu_, "relu", "relu_",
    nn.ReLU6, F.relu6,
    nn.Hardtanh, F.hardtanh,
    nn.LeakyReLU, F.leaky_relu,
    nn.SiLU, F.silu,
    nn.Hardswish, F.hardswish,
    nn.GELU, F.gelu,
    ScaledActivation,
)  # fmt: skip

SUMS: tuple[Target, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")
DIFFERENCES: tuple[Target, ...] = (
    operator.sub, operator.isub, torch.sub, torch.subtract, "sub", "sub_", "subtract", "subtract_",
)  # fmt: skip
PRODUCTS: tuple[Target, ...] = (
    operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_", "multiply", "multiply_",
)  # fmt: skip

# Their output has a range of its own.
REQUANTIZED_OPS: tuple[Target, ...] = (
    *SUMS, *DIFFERENCES, *PRODUCTS,
    nn.AvgPool2d, F.avg_pool2d,
    nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d,
    torch.mean, "mean",
    nn.Sigmoid, torch.sigmoid, F.sigmoid, "sigmoid",
    nn.Hardsigmoid, F.hardsigmoid,
    *ACTIVATION_FUNCTIONS,
)  # fmt: skip

# They only move, select or repeat values, so input and output share one range. Those that return
# several tensors are absent: an observer of torch cannot watch a tuple.
RANGE_PRESERVING_OPS: tuple[Target, ...] = (
    nn.MaxPool2d, F.max_pool2d,
    nn.Upsample, F.interpolate,
    nn.PixelShuffle, F.pixel_shuffle,
    nn.Flatten, torch.flatten, "flatten",
    nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout,
    torch.cat, torch.concat,
    torch.reshape, "reshape", "view", "contiguous",
    torch.permute, "permute", torch.transpose, "transpose",
    torch.squeeze, "squeeze", torch.unsqueeze, "unsqueeze",
    "repeat",
)  # fmt: skip

# Functions of one element; the other arguments are numbers.
SINGLE_ELEMENT_FUNCTIONS: frozenset[Target] = frozenset({
    *ACTIVATION_FUNCTIONS, *SUMS, *DIFFERENCES, *PRODUCTS,
    nn.Sigmoid, torch.sigmoid, F.sigmoid, "sigmoid",
    nn.Hardsigmoid, F.hardsigmoid,
    nn.Tanh, torch.tanh, F.tanh, "tanh",
    torch.clamp, "clamp", operator.truediv, torch.div, "div", operator.neg, torch.neg,
    nn.PReLU, nn.BatchNorm2d, ElementwiseFunction,
    nn.Mish, F.mish, nn.Softplus, F.softplus, nn.ELU, F.elu,
})  # fmt: skip

# Those that are nothing but a table of such a function.
FORMS_OF_ONE_TENSOR = SINGLE_ELEMENT_FUNCTIONS.difference(REQUANTIZED_OPS)

# No grid is placed for their sake, but between two grids they are integer instructions too: tables
# of a function of one element, paddings and cuts.
INTEGER_FORMS: frozenset[Target] = frozenset({
    *REQUANTIZED_OPS, *RANGE_PRESERVING_OPS,
    *SINGLE_ELEMENT_FUNCTIONS,
    F.pad, nn.ZeroPad2d, nn.ConstantPad2d,
    torch.chunk, "chunk", torch.split, "split", operator.getitem,
})  # fmt: skip
