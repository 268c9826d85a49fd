"""Observers only where a node is one floating-point tensor."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.ao.quantization.quantize_fx import prepare_fx

import repq_fx


class Net(nn.Module):
    """Two layers and what happens between them."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.between = between

    def forward(self, image):
        return self.between(self, self.first(image))


def grid(y):
    rows = torch.meshgrid(torch.arange(y.shape[2]), torch.arange(y.shape[3]), indexing="ij")
    return torch.stack(rows).sum(0) + 1


BETWEEN = {
    "split": lambda net, y: net.second(torch.cat(y.split(2, 1), 1)),
    "slice of chunk": lambda net, y: net.second(torch.cat(y.chunk(4, 1)[0:4], 1)),
    "unbind": lambda net, y: net.second(torch.stack(y.unbind(1), 1)),
    "tensor_split": lambda net, y: net.second(torch.cat(torch.tensor_split(y, 2, 1), 1)),
    "split_with_sizes": lambda net, y: net.second(torch.cat(y.split_with_sizes([3, 5], 1), 1)),
    "pool": lambda net, y: net.second(net.pool(y)[0]),
    "functional pool": lambda net, y: net.second(F.max_pool2d(y, 2, return_indices=True)[0]),
    "max": lambda net, y: net.second(y + torch.max(y, 1, keepdim=True)[0]),
    "topk": lambda net, y: net.second(y + y.topk(1, 1).values),
    "comparison": lambda net, y: net.second(y * (y > 0)),
    "meshgrid": lambda net, y: net.second(y * grid(y)),
}
PAIRS = {
    "argmax": lambda net, y: (net.second(y), y.flatten(2).argmax(2) + 1),
    "index": lambda net, y: (net.second(y), y.flatten(2).argmax(2).reshape(-1, 2, 4) * 2 - 1),
    "both of a pool": lambda net, y: (net.second(net.pool(y)[0]), net.pool(y)[1]),
}


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(4, 3, 8, 8)


@pytest.mark.parametrize("backend", ["reference", "int8"])
@pytest.mark.parametrize("between", BETWEEN)
def test_tuples_and_integers_between_layers(between, backend, images):
    model = Net(BETWEEN[between]).eval()
    quantized = repq_fx.quantize(model, images, backend=backend, progress=False)
    with torch.no_grad():
        for batch in (images, images[:1]):
            assert repq_fx.analysis.sqnr_db(model(batch), quantized(batch)) > 30


@pytest.mark.parametrize("pair", PAIRS)
def test_integer_outputs(pair, images):
    model = Net(PAIRS[pair]).eval()
    quantized = repq_fx.quantize(model, images, progress=False)
    with torch.no_grad():
        (known, indices), (found, given) = model(images), quantized(images)
    assert repq_fx.analysis.sqnr_db(known, found) > 30
    assert given.dtype == torch.int64
    assert (given == indices).float().mean() > 0.85  # Two maxima may be a level apart.


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
@pytest.mark.parametrize("loop", ["calibrate", "own"])
@pytest.mark.parametrize("pair", PAIRS)
def test_stock_prepare(pair, loop, images):
    model = Net(PAIRS[pair]).eval()
    mapping, backend = repq_fx.get_qconfig_mapping(repq_fx.Scheme()), repq_fx.get_backend_config()
    prepared = prepare_fx(model, mapping, (images,), backend_config=backend)
    if loop == "calibrate":
        repq_fx.calibrate(prepared, images, progress=False)
    else:
        with torch.no_grad():
            prepared(images)
    quantized = repq_fx.convert(prepared)
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(model(images)[0], quantized(images)[0]) > 30
