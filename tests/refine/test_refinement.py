"""What was found for a network, and layers that compute with it."""

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import api
from repq_fx.backend.prepared_view import PreparedView
from repq_fx.quant import CoarseFine, PerChannel
from repq_fx.refine.refined_copy import refined_copy
from repq_fx.refine.refinement import Refinement, compute_with
from repq_fx.refine.sequential import Pair, SequentialWalk


@pytest.fixture
def prepared(small_net, images):
    prepared = api.prepare(small_net, images, repq_fx.Scheme(4, 8))
    repq_fx.calibrate(prepared, images, progress=False)
    return prepared


def refined_from(prepared):
    return refined_copy(PreparedView.of(prepared, "test"), "test")


def found_for(prepared, images):
    view, found = refined_from(prepared), Refinement()
    walk = SequentialWalk(view, prepared, found)
    walk.through(view.graph_module, [Pair(images, images)])
    return view.graph_module, found


def test_what_is_found_can_be_written(prepared, images):
    refined, found = found_for(prepared, images)
    assert set(found.weights) == {"stem", "body", "depthwise", "point", "classifier"}
    assert found.weights.keys() == found.biases.keys()
    assert found.ranges
    other = refined_from(prepared).graph_module
    found.write(other)
    for name, weight in found.weights.items():
        layer, copied = refined.get_submodule(name), other.get_submodule(name)
        assert torch.equal(copied.weight, weight.dequantize())
        assert torch.equal(copied.weight, layer.weight)
        assert torch.equal(copied.bias, layer.bias)


def test_a_part_of_it_and_the_rest_are_the_whole(prepared, images):
    _, found = found_for(prepared, images)
    names = {"stem", *list(found.ranges)[:2]}
    part = found.only(names)
    assert part.weights.keys() == part.biases.keys() == {"stem"}
    assert part.ranges.keys() == names - {"stem"}
    others = {*found.weights, *found.ranges} - names
    part.update(found.only(others))
    assert part.weights.keys() == found.weights.keys()
    assert part.ranges == found.ranges


def test_convert_takes_what_was_found(prepared, images):
    own = repq_fx.convert(prepared, "reference")
    _, found = found_for(prepared, images)
    assert Refinement.left_on(prepared) is None
    found.leave_on(prepared)
    assert torch.equal(repq_fx.convert(prepared, "reference")(images), own(images))
    found.biases["classifier"] = found.biases["classifier"] + 1
    taken = repq_fx.convert(prepared, "reference")
    torch.testing.assert_close(taken(images), own(images) + 1)


@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_computes_with_the_quantized_weight(bias):
    layer = nn.Conv2d(3, 4, 3)
    weight, tied = layer.weight, nn.Conv2d(3, 4, 3)
    tied.weight = layer.weight
    before = weight.detach().clone()
    quantized = CoarseFine(threshold=0).quantize(weight, 4)
    new_bias = torch.randn(4) if bias else None
    compute_with(layer, quantized, new_bias)
    assert torch.equal(layer.weight, quantized.dequantize())
    assert not layer.weight.requires_grad
    assert torch.equal(tied.weight, before)
    assert (layer.bias is None) if new_bias is None else torch.equal(layer.bias, new_bias)


def test_weight_and_bias_follow_the_device_of_the_layer():
    layer = nn.Linear(3, 4, device="meta")
    quantized = CoarseFine().quantize(torch.randn(4, 3), 4)
    compute_with(layer, quantized, torch.randn(4))
    assert {layer.weight.device.type, layer.bias.device.type} == {"meta"}
    assert quantized.values.device.type == "cpu"


def test_half_precision_stays():
    layer = nn.Linear(3, 4).half()
    compute_with(layer, PerChannel().quantize(layer.weight, 8), None)
    assert layer.weight.dtype == torch.float16
