import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from repq_fx.passes.gathering.elementwise_function import ScaledActivation
from repq_fx.passes.gathering.known_activations import known_activation

SIXTH = float(torch.tensor(1 / 6))  # As a model in float32 holds it.
WRITTEN = {
    "silu": (lambda x: x * torch.sigmoid(x), nn.SiLU()),
    "silu_by_exp": (lambda x: x / (1 + torch.exp(-x)), nn.SiLU()),
    "sigmoid": (lambda x: (1 + torch.exp(-x)).reciprocal(), nn.Sigmoid()),
    "hard_swish": (lambda x: x * (x + 3).clamp(0, 6) * SIXTH, nn.Hardswish()),
    "hard_swish_outside": (lambda x: x * (x * SIXTH + 0.5).clamp(0, 1), nn.Hardswish()),
    "hard_sigmoid": (lambda x: F.relu6(x + 3) / 6, nn.Hardsigmoid()),
    "relu": (lambda x: x.clamp(min=0), nn.ReLU()),
    "relu_by_abs": (lambda x: (x + x.abs()) / 2, nn.ReLU()),
    "relu6": (lambda x: x.clamp(0, 6), nn.ReLU6()),
    "leaky_relu": (lambda x: torch.maximum(x, x * 0.1), nn.LeakyReLU(0.1)),
    "gelu": (lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), nn.GELU()),
    "gelu_tanh": (
        lambda x: x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        nn.GELU("tanh"),
    ),
    "clip": (lambda x: x.clamp(-1, 2), nn.Hardtanh(-1.0, 2.0)),
}
SCALED = {
    "hard_swish": (lambda x: 0.3 * (x * F.relu6(x + 3)) + 0.1, nn.Hardswish(), 1.8, 0.1),
    "negative": (lambda x: -1.3 * F.relu(x) + 0.2, nn.ReLU(), -1.3, 0.2),
    "paddle": (lambda x: (0.2 * x + 0.5).clamp(0, 1), nn.Hardtanh(-2.5, 2.5), 0.2, 0.5),
    "shifted": (lambda x: F.relu(x + 3), nn.Hardtanh(-3, math.inf), 1.0, 3.0),
}
OTHERS = {
    "line": lambda x: 2 * x + 1,
    "constant": lambda x: x * 0 + 1,
    "exp": torch.exp,
    "log": torch.log,
    "square": torch.square,
    "sign": torch.sign,
    "tanh": torch.tanh,
    "mish": F.mish,
    "softplus": F.softplus,
    "round": torch.round,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "almost_silu": lambda x: x * torch.sigmoid(1.001 * x),
}
POINTS = torch.linspace(-20, 20, 999, dtype=torch.float64)


@pytest.mark.parametrize(("function", "layer"), WRITTEN.values(), ids=WRITTEN)
def test_functions_are_recognised_however_they_are_written(function, layer):
    found = known_activation(function)
    assert repr(found) == repr(layer)
    torch.testing.assert_close(found(POINTS), function(POINTS), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("function", "layer", "factor", "offset"), SCALED.values(), ids=SCALED)
def test_what_surrounds_them_is_a_factor_and_an_offset(function, layer, factor, offset):
    found = known_activation(function)
    assert type(found) is ScaledActivation
    assert type(found.activation) is type(layer)
    assert (found.factor, found.offset) == (pytest.approx(factor), pytest.approx(offset))
    torch.testing.assert_close(found(POINTS), function(POINTS), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("function", OTHERS.values(), ids=OTHERS)
def test_other_functions_are_not(function):
    assert known_activation(function) is None


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e6])
def test_channels_of_any_size_are_told_apart(size):
    factor = size * torch.tensor([1.0, 2.0, 3.0]).double().view(-1, 1, 1)
    found = known_activation(lambda x: F.silu(x) * factor - factor, channels=3)
    torch.testing.assert_close(found.factor, factor)
    torch.testing.assert_close(found.offset, -factor)
    same = known_activation(lambda x: F.silu(x) * size - size, channels=3)
    assert (same.factor, same.offset) == pytest.approx((size, -size))
