"""Bias correction gives every layer the float layer's mean output."""

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import api


def output_shift(layer, data, *, correct):
    scheme = repq_fx.Scheme(weight_bits=3, bias_correction=correct)
    prepared = api.prepare(layer, data, scheme)
    repq_fx.calibrate(prepared, data, progress=False)
    quantized = repq_fx.convert(prepared, backend="reference")
    dims = [d for d in range(data.dim()) if d != 1]
    with torch.no_grad():
        return (quantized(data) - layer(data)).mean(dims).abs().max().item()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(8, 12, 3), (32, 8, 9, 9)),
        (nn.Conv2d(8, 8, 3, groups=8, bias=False), (32, 8, 9, 9)),
        (nn.Conv2d(8, 12, 1, groups=2), (32, 8, 9, 9)),
        (nn.Linear(8, 12), (32, 8)),
    ],
    ids=["conv", "depthwise", "grouped", "linear"],
)
def test_the_mean_output_is_that_of_the_float_layer(layer, shape):
    torch.manual_seed(0)
    model = nn.Sequential(layer).eval()
    data = torch.rand(shape)
    uncorrected = output_shift(model, data, correct=False)
    assert uncorrected > 1e-3
    assert output_shift(model, data, correct=True) < 1e-3 * uncorrected


def test_layers_are_corrected_on_the_quantized_stream(small_net, images):
    outputs = {}
    for correct in (False, True):
        scheme = repq_fx.Scheme(weight_bits=4, activation_bits=4, bias_correction=correct)
        prepared = api.prepare(small_net, images, scheme)
        repq_fx.calibrate(prepared, images, progress=False)
        quantized = repq_fx.convert(prepared, backend="reference")
        with torch.no_grad():
            outputs[correct] = (quantized(images) - small_net(images)).mean(0).abs().max().item()
    assert outputs[True] < 1e-5 < outputs[False]


def test_a_loop_of_the_users_own_leaves_biases_alone(small_net, images):
    prepared = api.prepare(small_net, images, repq_fx.Scheme())
    with torch.no_grad():
        prepared(images)
    quantized = repq_fx.convert(prepared, backend="reference")
    assert torch.equal(quantized.get_submodule("stem").bias, small_net.stem.bias)


def test_vanilla_corrects_nothing():
    assert not repq_fx.Scheme.vanilla().bias_correction
