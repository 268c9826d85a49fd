import pytest
import torch
from torch import nn

import repq_fx
from repq_fx.analysis import sqnr_db
from repq_fx.passes import trace
from repq_fx.passes.graph.run import GraphRun


class Head(nn.Module):
    """As many detection heads do, it overwrites the list that it gets."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(4, 2, 1) for _ in range(2))

    def forward(self, features):
        for index, layer in enumerate(self.layers):
            features[index] = layer(features[index])
        return features if float(features[0].detach().mean()) < 1e9 else features[:1]


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2)
        self.head = Head()

    def forward(self, x):
        fine = torch.relu(self.first(x))
        return self.head([fine, self.second(fine)])


@pytest.fixture
def images():
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("backend", ["reference", "int8"])
def test_a_leaf_may_overwrite_its_list(backend, images):
    model = Detector().eval()
    quantized = repq_fx.quantize(model, images, leaves=["head"], backend=backend, progress=False)
    for found, known in zip(quantized(images), model(images), strict=True):
        assert sqnr_db(known, found) > 30


def test_the_graph_keeps_its_own_lists(images):
    traced = trace(Detector().eval(), images, leaves=["head"])
    run = GraphRun(traced)
    for first, second in zip(run.run(images), run.run(images), strict=True):
        assert torch.equal(first, second)


def test_an_error_is_the_operators_own(images):
    run = GraphRun(trace(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), images))
    with pytest.raises(RuntimeError) as raised:
        run.run(torch.zeros(1, 5, 8, 8))
    assert "While executing" not in str(raised.value)
