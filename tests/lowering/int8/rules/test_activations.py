"""Activation functions with a factor and an offset for each channel, in lowered networks."""

import logging
import math

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx.api import prepare
from repq_fx.lowering.int8.instructions import (
    Activation,
    ChannelLookup,
    Combine,
    Int8Layer,
    Int8Program,
    LevelGrid,
    Lookup,
)
from repq_fx.lowering.int8.rules.activations import Follower
from repq_fx.passes import merge_graph
from repq_fx.passes.gathering.elementwise_function import ScaledActivation

IMAGES = torch.randn(8, 3, 12, 12)
BATCHES = (IMAGES, IMAGES[:1], torch.cat([IMAGES, IMAGES], 3))
CHANNELS = 12


def scaled(activation, *, offset=False, shape=(CHANNELS, 1, 1)):
    factor = torch.linspace(0.25, 3, math.prod(shape)).view(shape)
    return ScaledActivation(activation, factor, factor.flip(0) - 1 if offset else 0.0)


class Net(nn.Module):
    """Scaled functions behind layers of each kind, behind one plus a tensor, and behind a sum."""

    def __init__(self, function):
        super().__init__()
        self.dense = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.depthwise = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)
        self.pointwise = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.hidden, self.head = nn.Linear(CHANNELS, CHANNELS), nn.Linear(CHANNELS, 4)
        self.functions = nn.ModuleList(function((CHANNELS, 1, 1)) for _ in range(4))
        self.last = function((CHANNELS,))

    def forward(self, x):
        x = self.functions[0](self.dense(x))
        y = self.functions[1](self.depthwise(x))
        z = self.functions[2](self.pointwise(y) + y)
        x = self.functions[3](x + z) + z
        return self.head(self.last(self.hidden(self.flatten(self.pool(x)))))


FUNCTIONS = {
    "relu_with_offset": lambda shape: scaled(nn.ReLU(), offset=True, shape=shape),
    "silu": lambda shape: scaled(nn.SiLU(), shape=shape),
    "hard_swish_with_offset": lambda shape: scaled(nn.Hardswish(), offset=True, shape=shape),
    "gelu": lambda shape: scaled(nn.GELU(), shape=shape),
    "leaky": lambda shape: scaled(nn.LeakyReLU(0.2), offset=True, shape=shape),
}


def sqnr(known, found):
    return 10 * torch.log10(known.square().sum() / (known - found).square().sum())


def quantized(model, backend="int8"):
    """As `repq_fx.quantize`, if the scaled activations were found in the model's graph."""
    merged = merge_graph(model, (IMAGES,), leaves=[ScaledActivation])
    prepared = prepare(merged, IMAGES, repq_fx.Scheme())
    repq_fx.calibrate(prepared, IMAGES, progress=False)
    return repq_fx.convert(prepared, backend, progress=False)


def assert_like_reference(model, lowered, batches=BATCHES):
    reference = quantized(model, backend="reference")
    with torch.no_grad():
        for batch in batches:
            known = model(batch)
            assert sqnr(known, reference(batch)) > 25
            assert sqnr(known, lowered(batch)) > sqnr(known, reference(batch)) - 0.5


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_numbers_of_channels_are_part_of_the_integer_step(function, caplog):
    model = Net(function).eval()
    with caplog.at_level(logging.WARNING):
        lowered = quantized(model)
        assert_like_reference(model, lowered)
    assert not caplog.records
    assert [type(m) for m in lowered.modules()].count(Int8Program) == 1
    assert not any(
        isinstance(m, Lookup | ChannelLookup | ScaledActivation) for m in lowered.modules()
    )
    layers = [m for m in lowered.modules() if isinstance(m, Int8Layer)]
    assert [layer.grids.epilogue.channels for layer in layers] == [CHANNELS] * 4 + [None]
    sums = [m for m in lowered.modules() if isinstance(m, Combine)]
    assert [step.epilogue.channels for step in sums] == [CHANNELS, None]


@pytest.mark.parametrize("backend", ["int8", "reference"])
def test_they_are_saved(backend, tmp_path):
    model = quantized(Net(FUNCTIONS["hard_swish_with_offset"]).eval(), backend=backend)
    repq_fx.save(model, tmp_path / "model.repq")
    loaded = repq_fx.load(tmp_path / "model.repq")
    assert torch.equal(loaded(IMAGES), model(IMAGES))
    loaded.load_state_dict(model.state_dict())


def test_the_state_of_other_numbers_is_refused():
    model, other = (quantized(Net(FUNCTIONS[name]).eval()) for name in ("silu", "gelu"))
    with pytest.raises((ValueError, RuntimeError), match="another quantized model"):
        model.load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    "activation", [nn.ReLU6(), nn.Hardtanh(), nn.Softplus()], ids=lambda each: type(each).__name__
)
def test_others_stay_float_operations_and_right(activation):
    """Bounds of levels are the same for all channels."""
    model = Net(lambda shape: scaled(activation, offset=True, shape=shape)).eval()
    lowered = quantized(model)
    assert any(isinstance(m, ScaledActivation) for m in lowered.modules())
    assert_like_reference(model, lowered)


class Chain(nn.Module):
    """A scaled function behind some layers."""

    def __init__(self, function, *layers):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, CHANNELS, 3, padding=1), nn.Conv2d(CHANNELS, 4, 1)
        self.layers, self.function = nn.Sequential(*layers), function

    def forward(self, x):
        return self.last(self.function(self.layers(self.first(x))))


@pytest.mark.parametrize("shape", [(12,), (12, 1), (1, CHANNELS, 1, 1)], ids=str)
def test_numbers_on_another_axis(shape):
    model = Chain(scaled(nn.SiLU(), shape=shape)).eval()
    assert_like_reference(model, quantized(model), [IMAGES, IMAGES[:1]])


def test_a_scaled_function_of_levels_has_no_table():
    model = Chain(scaled(nn.SiLU(), offset=True), nn.MaxPool2d(2)).eval()
    assert_like_reference(model, quantized(model))


def test_a_clipping_function_may_have_a_factor_for_all():
    relu = Follower(bounds=(0.0, math.inf))
    grid = LevelGrid(0.5, 10)
    assert relu.scaled(2.0, 0.0).before(grid).output_grid.lowest == 10
    assert relu.scaled(torch.tensor([-2.0]), 0.0).before(grid).output_grid.highest == 10
    leaky = relu.scaled(torch.tensor([2.0, 3.0]), 1.0)
    assert (leaky.activation, leaky.slope, leaky.factor, leaky.offset) == (
        Activation.LEAKY_RELU, 0.0, (2.0, 3.0), 1.0,
    )  # fmt: skip
    assert Follower(bounds=(0.0, 6.0)).scaled(torch.tensor([2.0, 3.0]), 0.0) is None


def test_factor_and_offset_stand_on_one_axis():
    silu = Follower()
    assert silu.scaled(torch.ones(4, 1, 1), torch.ones(4)) is None
    assert silu.scaled(torch.ones(4, 1, 1), torch.ones(3, 1, 1)) is None
    assert silu.scaled(torch.ones(4, 1, 1), torch.ones(1)).channel_shape == (-1, 1, 1)
    assert silu.scaled(1.7, 0.3) == Follower(factor=1.7, offset=0.3)
