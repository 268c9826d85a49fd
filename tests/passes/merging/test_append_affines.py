"""`reparameterize(affine=True)`: a channel affine that changes nothing until it is trained."""

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import Scheme, api
from repq_fx.models import fashion_repvgg
from repq_fx.passes.merging.append_affines import append_affines

IMAGES = torch.randn(6, 1, 28, 28)


@pytest.fixture
def merged(randomize_batch_norm):
    torch.manual_seed(0)
    model = randomize_batch_norm(fashion_repvgg().eval()).double()
    return repq_fx.reparameterize(model, IMAGES.double(), affine=True), model


def affines_of(model):
    return {n: m for n, m in model.named_modules() if n.endswith("_affine")}


def test_is_the_same_function_at_first(merged):
    affine, model = merged
    assert len(affines_of(affine)) > 3
    torch.testing.assert_close(affine(IMAGES.double()), model(IMAGES.double()))


def test_prepare_folds_what_was_trained_into_the_convolution(merged):
    affine = merged[0].float()
    with torch.no_grad():
        for module in affines_of(affine).values():
            module.weight.uniform_(-1.5, 1.5)
            module.bias.uniform_(-0.5, 0.5)
    prepared = api.prepare(affine, IMAGES, Scheme())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in prepared.modules())
    torch.testing.assert_close(prepared(IMAGES), affine(IMAGES), rtol=1e-4, atol=1e-4)


def test_other_layers_are_passed_over(merged):
    affine = merged[0]
    before = str(affine.graph)
    append_affines(affine, {"classifier", "nothing"})
    assert str(affine.graph) == before


def test_parts_that_are_graph_modules_get_theirs():
    part = repq_fx.trace(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), torch.randn(1, 3, 8, 8)
    )
    whole = nn.ModuleDict({"part": part})
    append_affines(whole, {"part.0"})
    assert isinstance(part.get_submodule("0_affine"), nn.BatchNorm2d)
