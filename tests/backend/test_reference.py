"""Reference layers equal the simulated ones to the last bit."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repq_fx.backend.reference import ReferenceConv2d, ReferenceLinear
from repq_fx.ops import fake_quantize
from repq_fx.quant import CoarseFine, LayerPlan, PerChannel, WeightObserver


def observed(layer, quantizer, bits=8):
    layer = copy.deepcopy(layer).eval().requires_grad_(False)
    layer.qconfig = type("QConfig", (), {})()
    layer.qconfig.weight = lambda: WeightObserver(LayerPlan(quantizer, bits))
    return layer


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "circular"])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_conv_equals_the_simulation_with_its_own_weight(padding_mode, groups):
    conv = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=groups, padding_mode=padding_mode)
    reference = ReferenceConv2d.from_float(observed(conv, PerChannel()), {})
    simulated = observed(conv, PerChannel())
    simulated.weight.copy_(
        fake_quantize(
            conv.weight.detach(), reference.scale, torch.zeros(8, dtype=torch.int32), -127, 127, 0
        )
    )
    image = torch.randn(2, 8, 9, 9)
    assert torch.equal(reference(image), simulated(image))


def test_split_conv_is_the_sum_of_its_two_products():
    conv = nn.Conv2d(8, 8, 3, padding=1)
    conv.weight.data[:, :, 1, 1] += 2 * torch.eye(8)
    reference = ReferenceConv2d.from_float(observed(conv, CoarseFine()), {}).double()
    assert reference.is_split
    image = torch.randn(2, 8, 7, 7).double()
    fine = F.conv2d(image, reference.values.double(), padding=1)
    coarse = F.conv2d(image, reference.coarse_values.double())
    scale, coarse_scale = (
        value.reshape(-1, 1, 1) for value in (reference.scale, reference.coarse_scale)
    )
    expected = scale * fine + coarse_scale * coarse + reference.bias.reshape(-1, 1, 1)
    torch.testing.assert_close(reference(image), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_linear_uses_its_integers(bits):
    linear = nn.Linear(12, 5)
    reference = ReferenceLinear.from_float(observed(linear, PerChannel(), bits), {})
    rows = torch.randn(3, 12)
    expected = F.linear(rows, reference.values * reference.scale[:, None], linear.bias)
    assert torch.equal(reference(rows), expected)
    assert reference.values.abs().max() <= 2 ** (bits - 1) - 1
