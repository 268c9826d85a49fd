"""A quantized weight on a float layer."""

import pytest
import torch
from torch import nn

from repq_fx.backend.quantized_layer import quantized_weight_of, set_quantized
from repq_fx.quant import CoarseFine, PerChannel


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_computes_with_the_quantized_weight(bias):
    layer = nn.Conv2d(3, 4, 3)
    weight, tied = layer.weight, nn.Conv2d(3, 4, 3)
    tied.weight = layer.weight
    before = weight.detach().clone()
    quantized = CoarseFine(threshold=0).quantize(weight, 4)
    new_bias = torch.randn(4) if bias else None
    assert quantized_weight_of(layer) is None
    set_quantized(layer, quantized, new_bias)
    found = quantized_weight_of(layer)
    assert torch.equal(found.values, quantized.values)
    assert torch.equal(found.coarse_values, quantized.coarse_values)
    assert torch.equal(layer.weight, quantized.dequantize())
    assert not layer.weight.requires_grad
    assert torch.equal(tied.weight, before)
    assert (layer.bias is None) if new_bias is None else torch.equal(layer.bias, new_bias)


def test_everything_follows_the_device_of_the_layer():
    layer = nn.Linear(3, 4, device="meta")
    quantized = CoarseFine().quantize(torch.randn(4, 3), 4)
    set_quantized(layer, quantized, torch.randn(4))
    found = quantized_weight_of(layer)
    parts = (layer.weight, layer.bias, found.values, found.scale)
    assert {part.device.type for part in parts} == {"meta"}
    assert quantized.values.device.type == "cpu"


def test_half_precision_stays():
    layer = nn.Linear(3, 4).half()
    set_quantized(layer, PerChannel().quantize(layer.weight, 8), None)
    assert layer.weight.dtype == torch.float16


@pytest.mark.parametrize("value", [nn.Linear(2, 2), nn.ReLU(), torch.ones(2), None], ids=str)
def test_other_things_hold_none(value):
    assert quantized_weight_of(value) is None
