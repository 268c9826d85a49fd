"""Ordered dictionaries stay ordered dictionaries, whatever is done to a graph."""

import copy
import pickle
from collections import OrderedDict

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx.passes import trace

IMAGES = torch.randn(8, 3, 9, 9, generator=torch.Generator().manual_seed(0))


class Features(nn.Module):
    """Returns ordered dictionaries, one inside another, as backbones of detectors do."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1)
        self.last = nn.Conv2d(8, 4, 3)

    def forward(self, x):
        merged = torch.relu(self.wide(x) + self.narrow(x))
        inner = OrderedDict(doubled=merged * 2)
        found = OrderedDict()
        found["z"], found["count"] = self.last(merged), 3
        found["a"] = [inner, {"plain": merged}]
        return found


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Features().eval()


def assert_same_structure(output):
    assert type(output) is OrderedDict
    assert list(output) == ["z", "count", "a"]
    assert output["count"] == 3
    inner, plain = output["a"]
    assert type(inner) is OrderedDict
    assert type(plain) is dict


def copies_of(model):
    yield model
    yield copy.deepcopy(model)
    yield pickle.loads(pickle.dumps(model))
    yield pickle.loads(pickle.dumps(copy.deepcopy(model)))


@pytest.mark.parametrize("rewrite", [trace, repq_fx.reparameterize])
def test_graphs_return_what_the_model_does(rewrite, model):
    expected = model(IMAGES)
    for graph in copies_of(rewrite(model, IMAGES)):
        output = graph(IMAGES)
        assert_same_structure(output)
        torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("backend", ["reference", "int8"])
def test_quantized_models_and_their_files_do_too(backend, model, tmp_path):
    expected = model(IMAGES)
    quantized = repq_fx.quantize(model, IMAGES, backend=backend, progress=False)
    repq_fx.save(quantized, tmp_path / "model.repq")
    for each in (*copies_of(quantized), *copies_of(repq_fx.load(tmp_path / "model.repq"))):
        output = each(IMAGES)
        assert_same_structure(output)
        assert repq_fx.analysis.sqnr_db(expected["z"], output["z"]) > 35
        (known, _), (found, _) = expected["a"], output["a"]
        assert repq_fx.analysis.sqnr_db(known["doubled"], found["doubled"]) > 35
