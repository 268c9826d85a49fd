"""Integer layers against exact integer arithmetic, and what they keep."""

import copy
import pickle

import pytest
import torch
from torch import nn

from repq_fx.backend import int8_layers
from repq_fx.backend.int8_layers import CfwsConv2d, Grids, Int8Conv2d, Int8Linear


def grids(*, zero_point=114, output_scale=0.05, output=(7, 0, 255)):
    return Grids(
        input_scale=0.03, input_zero_point=zero_point, output_scale=output_scale,
        output_zero_point=output[0], output_min=output[1], output_max=output[2],
    )  # fmt: skip


def conv(*, groups=1, kernel=3, stride=1, padding=1, dilation=1, split=False, **options):
    weight = torch.randint(-127, 128, (16, 8 // groups, kernel, kernel), dtype=torch.int8)
    arguments = {
        "weight_int": weight, "weight_scale": 1e-4 + 1e-4 * torch.rand(16),
        "bias": torch.randn(16), "stride": (stride, stride), "padding": (padding, padding),
        "dilation": (dilation, dilation), "groups": groups, "grids": grids(**options),
    }  # fmt: skip
    if not split:
        return Int8Conv2d(**arguments)
    coarse = torch.randint(-127, 128, (16, 8 // groups, 1, 1), dtype=torch.int8)
    return CfwsConv2d(coarse_int=coarse, coarse_scale=torch.full((16,), 1e-3), **arguments)


def linear(**options):
    weight = torch.randint(-127, 128, (10, 8), dtype=torch.int8)
    return Int8Linear(weight, torch.full((10,), 1e-3), torch.randn(10), grids(**options))


def exact(layer, input, monkeypatch):
    """The layer's own arithmetic in exact integers, as on a machine without oneDNN."""
    with monkeypatch.context() as patch:
        patch.setattr(int8_layers, "runs_on_onednn", lambda: False)
        return layer(input)


def assert_contract(layer, input, monkeypatch):
    result, expected = layer(input), exact(layer, input, monkeypatch)
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    if result.dtype == torch.float32:
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    else:
        difference = (result.int() - expected.int()).abs()
        assert difference.max() <= 1
        assert (difference > 0).sum() <= max(1, difference.numel() // 1000)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"groups": 2}, {"groups": 8}, {"stride": 2}, {"dilation": 2, "padding": 2},
        {"kernel": 1, "padding": 0}, {"kernel": 5, "padding": 2}, {"zero_point": 0},
        {"zero_point": 255}, {"output": (0, 0, 63)}, {"output": (9, 9, 15)},
        {"output_scale": None},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("split", [False, True], ids=["plain", "split"])
def test_convolutions_equal_exact_integers(options, split, monkeypatch):
    image = torch.randint(0, 256, (2, 8, 13, 12), dtype=torch.uint8)
    assert_contract(conv(split=split, **options), image, monkeypatch)


@pytest.mark.parametrize("shape", [(5, 8), (2, 3, 8), (1, 8)], ids=str)
@pytest.mark.parametrize("options", [{}, {"output_scale": None}, {"output": (0, 0, 15)}], ids=str)
def test_linear_equals_exact_integers(shape, options, monkeypatch):
    rows = torch.randint(0, 256, shape, dtype=torch.uint8)
    assert_contract(linear(**options), rows, monkeypatch)


@pytest.mark.parametrize("split", [False, True], ids=["plain", "split"])
def test_image_and_batch_size_may_change(split, monkeypatch):
    layer = conv(split=split)
    for shape in ((1, 8, 9, 9), (3, 8, 20, 7), (1, 8, 1, 1), (1, 8, 9, 9)):
        assert_contract(layer, torch.randint(0, 256, shape, dtype=torch.uint8), monkeypatch)
    assert layer(torch.empty((0, 8, 9, 9), dtype=torch.uint8)).shape == (0, 16, 9, 9)


@pytest.mark.parametrize("make", [conv, lambda: conv(split=True)], ids=["plain", "split"])
def test_packed_weights_are_neither_copied_nor_pickled(make):
    layer = make()
    image = torch.randint(0, 256, (1, 8, 9, 9), dtype=torch.uint8)
    expected = layer(image)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert not int8_layers.CACHES & other.__dict__.keys()
        assert torch.equal(other(image), expected)
    assert all("packed" not in name for name in layer.state_dict())
    assert isinstance(layer, nn.Module)
