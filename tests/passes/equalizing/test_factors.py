import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from repq_fx.passes.equalizing.factors import Readers
from repq_fx.passes.equalizing.layer_channels import at_weights
from repq_fx.passes.equalizing.layer_statistics import InputStatistics


def quantized(values, low, high, bits):
    scale = (high - low) / (2**bits - 1)
    zero = (-low / scale).round()
    return ((values / scale + zero).round().clamp(0, 2**bits - 1) - zero) * scale


def disturbance(layer, inputs, factors, weight_bits, activation_bits):
    """What rounding both operands by their largest values does to the outputs, measured."""
    scaled = inputs / factors[:, None, None]
    rounded = quantized(scaled, scaled.amin().clamp(max=0), scaled.amax(), activation_bits)
    weight = layer.weight.detach() * at_weights(layer, factors)
    steps = weight.flatten(1).abs().amax(1).view(-1, 1, 1, 1) / (2 ** (weight_bits - 1) - 1)
    known, found = (
        torch.nn.functional.conv2d(x, w)
        for x, w in ((scaled, weight), (rounded, (weight / steps).round() * steps))
    )
    return float((found - known).square().mean() / known.square().mean())


@given(seed=st.integers(0, 999), bits=st.sampled_from([(8, 8), (6, 6), (4, 8), (8, 4)]))
def test_the_quietest_factors_disturb_hardly_more_than_none(seed, bits):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Conv2d(12, 16, 1, bias=False).double()
    spread = 10 ** (2 * torch.rand(2, 12, generator=generator).double() - 1)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
        layer.weight.mul_(spread[0].view(1, -1, 1, 1))
    inputs = torch.randn(16, 12, 8, 8, generator=generator).double() * spread[1].view(-1, 1, 1)
    inputs = nn.functional.silu(inputs)
    readers = Readers([layer], InputStatistics.of(layer, inputs, inputs))
    quietest = readers.quietest_factors(*bits)
    none = disturbance(layer, inputs, torch.ones(12).double(), *bits)
    assert disturbance(layer, inputs, quietest, *bits) < 1.1 * none


@pytest.mark.parametrize("dead", ["all", "some", "weights"])
def test_dead_channels_have_factors(dead):
    layer = nn.Conv2d(4, 4, 1, bias=False).double()
    inputs = torch.rand(2, 4, 5, 5).double()
    inputs[:, : {"all": 4, "some": 2, "weights": 0}[dead]] = 0
    if dead == "weights":
        nn.init.zeros_(layer.weight)
    readers = Readers([layer], InputStatistics.of(layer, inputs, inputs))
    for factors in (readers.factors(0.3), readers.quietest_factors(8, 8)):
        assert factors.isfinite().all()
        assert (factors > 0).all()
        assert dead == "some" or torch.equal(factors, torch.ones(4).double())
