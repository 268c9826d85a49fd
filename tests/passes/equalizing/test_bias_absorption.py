import copy

import pytest
import torch
from torch import nn

from repq_fx.passes import absorb_high_biases, trace


def biased(reader, *between, bias=True):
    """A net whose first layer has four channels that stay far above zero, before `reader`."""
    first = nn.Conv2d(3, 8, 1, bias=bias)
    if bias:
        with torch.no_grad():
            first.bias[::2] = 20
    return nn.Sequential(first, *(between or (nn.ReLU(),)), reader).double().eval()


def image():
    return torch.randn(16, 3, 6, 6, dtype=torch.float64).clamp(-3, 3)


READERS = {
    "pointwise": lambda: nn.Conv2d(8, 5, 1),
    "unpadded": lambda: nn.Conv2d(8, 5, 3),
    "valid": lambda: nn.Conv2d(8, 5, 3, padding="valid"),
    "grouped": lambda: nn.Conv2d(8, 6, 1, groups=2),
    "depthwise": lambda: nn.Conv2d(8, 8, 3, groups=8),
    "no-bias": lambda: nn.Conv2d(8, 5, 1, bias=False),
}


@pytest.mark.parametrize("make_reader", READERS.values(), ids=READERS)
def test_absorption_is_exact_on_the_data_it_saw(make_reader):
    model, data = biased(make_reader()), image()
    graph = trace(model, data)
    before = copy.deepcopy(graph.state_dict())
    absorbed, moved = absorb_high_biases(graph, data)
    assert moved == {"0": 4}
    assert all(torch.equal(before[name], value) for name, value in graph.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(absorbed(data), graph(data), rtol=1e-12, atol=1e-12)
        hidden = absorbed.get_submodule("0")(data)
    assert (hidden[:, ::2].amin((0, 2, 3)) >= -1e-12).all()
    assert (absorbed.get_submodule("0").bias[::2] < 15).all()
    assert torch.equal(absorbed.get_submodule("0").bias[1::2], graph.get_submodule("0").bias[1::2])


def test_absorption_reaches_linear_layers():
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(inplace=True), nn.Linear(8, 5)).double().eval()
    nn.init.constant_(model[0].bias, 20)
    data = torch.randn(64, 3, dtype=torch.float64)
    absorbed, moved = absorb_high_biases(trace(model, data), data)
    assert moved == {"0": 8}
    with torch.no_grad():
        torch.testing.assert_close(absorbed(data), model(data), rtol=1e-12, atol=1e-12)


UNTOUCHED = {
    "padded": lambda: biased(nn.Conv2d(8, 5, 3, padding=1)),
    "same": lambda: biased(nn.Conv2d(8, 5, 3, padding="same")),
    "pool": lambda: biased(nn.Conv2d(8, 5, 1), nn.ReLU(), nn.AvgPool2d(3, padding=1)),
    "leaky": lambda: biased(nn.Conv2d(8, 5, 1), nn.LeakyReLU()),
    "centred": lambda: biased(nn.Conv2d(8, 5, 1), bias=False),
}


@pytest.mark.parametrize("make_model", UNTOUCHED.values(), ids=UNTOUCHED)
def test_other_layers_stay(make_model):
    data = image()
    graph = trace(make_model(), data)
    absorbed, moved = absorb_high_biases(graph, data)
    assert moved == {}
    assert all(map(torch.equal, graph.parameters(), absorbed.parameters()))


def test_the_mean_rule_limits_the_offset():
    model, data = biased(nn.Conv2d(8, 5, 1)), image()
    graph = trace(model, data)
    absorbed, _ = absorb_high_biases(graph, data)
    with torch.no_grad():
        rows = graph.get_submodule("0")(data).movedim(1, 0).flatten(1)
        offset = graph.get_submodule("0").bias - absorbed.get_submodule("0").bias
    deviation, mean = torch.std_mean(rows, 1, correction=0)
    expected = torch.minimum(rows.amin(1), mean - 3 * deviation).clamp(min=0)
    torch.testing.assert_close(offset, expected)
