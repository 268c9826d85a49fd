"""One layer rounded for what arrives at it."""

import pytest
import torch
from torch import nn

from repq_fx.quant import CoarseFine, LayerPlan
from repq_fx.refine.layer_rounding import Arriving, quantize_layer

LAYERS = {
    "dense": (lambda: nn.Conv2d(3, 4, 3), (6, 3, 8, 8)),
    "depthwise": (lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False), (6, 3, 8, 8)),
    "one-image": (lambda: nn.Conv2d(3, 4, 1), (3, 8, 8)),
    "linear": (lambda: nn.Linear(5, 4, bias=False), (20, 5)),
    "tokens": (lambda: nn.Linear(5, 4), (2, 20, 5)),
}


@torch.no_grad()
@pytest.mark.parametrize("corrects_bias", [False, True])
@pytest.mark.parametrize(("make_layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_what_it_returns_is_what_the_layer_then_computes(make_layer, shape, corrects_bias):
    torch.manual_seed(0)
    layer, values = make_layer(), torch.randn(shape) + 0.5
    calls = []
    layer.register_forward_hook(lambda *_: calls.append(1))
    exact = layer(values)
    plan = LayerPlan(CoarseFine(), 3, gptq=True, bias_correction=corrects_bias)
    arriving = values + 0.1
    calls.clear()
    weight, output = quantize_layer(layer, plan, Arriving(values, arriving, exact), thorough=False)
    assert len(calls) == 1
    assert torch.equal(layer.weight, weight.dequantize())
    torch.testing.assert_close(output, layer(arriving))
    if corrects_bias:
        channel = output.dim() - 3 if isinstance(layer, nn.Conv2d) else output.dim() - 1
        others = [axis for axis in range(output.dim()) if axis != channel]
        torch.testing.assert_close(output.mean(others), exact.mean(others), rtol=1e-4, atol=1e-5)
