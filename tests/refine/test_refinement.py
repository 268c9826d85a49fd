"""Taking over what was found for a prepared model."""

import pytest
import torch

import repq_fx
from repq_fx import api
from repq_fx.backend.quantized_layer import quantized_weight_of
from repq_fx.quant import ActivationObserver
from repq_fx.refine.refined_copy import refined_copy
from repq_fx.refine.refinement import REFINEMENT, Refinement
from repq_fx.refine.sequential import ObserverRoles, Pair, quantize_sequentially


@pytest.fixture
def prepared(small_net, images):
    prepared = api.prepare(small_net, images, repq_fx.Scheme(4, 8))
    repq_fx.calibrate(prepared, images, progress=False)
    return prepared


def refined_from(prepared, images):
    refined = refined_copy(prepared, "test")
    roles = ObserverRoles.of(refined)
    quantize_sequentially(refined, prepared, [Pair(images, images)], roles)
    return refined


def test_what_is_read_can_be_written(prepared, images):
    refined, found = refined_from(prepared, images), Refinement()
    found.read(dict(refined.named_modules()))
    assert set(found.weights) == {"stem", "body", "depthwise", "point", "classifier"}
    assert found.weights.keys() == found.biases.keys()
    assert found.ranges
    other = refined_copy(prepared, "test")
    found.write(other)
    for name, module in refined.named_modules():
        copied = other.get_submodule(name)
        if name in found.weights:
            assert torch.equal(copied.weight, module.weight)
            assert torch.equal(copied.bias, module.bias)
            assert torch.equal(quantized_weight_of(copied).values, found.weights[name].values)
        if isinstance(module, ActivationObserver):
            assert copied.chosen == module.chosen
    again = Refinement()
    again.read(dict(other.named_modules()))
    assert again.ranges == found.ranges


def test_nothing_is_found_in_a_model_that_is_as_it_was(prepared):
    found = Refinement()
    found.read(dict(refined_copy(prepared, "test").named_modules()))
    assert found == Refinement()


def test_convert_takes_what_was_found(prepared, images):
    own = repq_fx.convert(prepared, "reference")
    found = Refinement()
    found.read(dict(refined_from(prepared, images).named_modules()))
    prepared.meta[REFINEMENT] = found
    assert torch.equal(repq_fx.convert(prepared, "reference")(images), own(images))
    found.biases["classifier"] = found.biases["classifier"] + 1
    taken = repq_fx.convert(prepared, "reference")
    torch.testing.assert_close(taken(images), own(images) + 1)
