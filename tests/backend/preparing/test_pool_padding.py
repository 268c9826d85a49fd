"""A padding below all values for a max pool stays in integers."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import repq_fx
from repq_fx.errors import CalibrationError


def padded_by_function(y):
    return F.max_pool2d(F.pad(y, (0, 1, 0, 1), value=-math.inf), 3, 2)


def padded_by_place(y):
    return F.max_pool2d(F.pad(y, (1, 1, 1, 1), "constant", -math.inf), 3, 2)


def padded_like_timm(y):
    rows, columns = y.shape[-2] % 2, y.shape[-1] % 2
    return F.max_pool2d(F.pad(y, (columns, 1, rows, 1), value=-math.inf), 3, 2)


def read_elsewhere_too(y):
    padded = F.pad(y, (0, 1, 0, 1), value=-math.inf)
    return F.max_pool2d(padded, 3, 2) + padded.amax((2, 3), keepdim=True)


def padded_by_the_lowest_number(y):
    return F.max_pool2d(F.pad(y, (1, 1, 1, 1), value=torch.finfo(torch.float32).min), 3, 2)


def padded_by_a_low_number(y):
    return F.max_pool2d(F.pad(y, (0, 1, 0, 1), value=-1e9), 3, 2)


def a_low_number_read_elsewhere_too(y):
    padded = F.pad(y, (0, 1, 0, 1), value=-1e9)
    return F.max_pool2d(padded, 3, 2) + padded.amax((2, 3), keepdim=True)


class Net(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.between = between

    def forward(self, image):
        return self.second(self.between(self.first(image)))


class PadLayer(nn.Sequential):
    def __init__(self):
        super().__init__(nn.ConstantPad2d((0, 1, 0, 1), -math.inf), nn.MaxPool2d(3, 2))


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(4, 3, 8, 8)


BETWEEN = [
    padded_by_function, padded_by_place, padded_like_timm, read_elsewhere_too, PadLayer(),
    padded_by_the_lowest_number, padded_by_a_low_number, a_low_number_read_elsewhere_too,
]  # fmt: skip


@pytest.mark.parametrize("backend", ["reference", "int8"])
@pytest.mark.parametrize("between", BETWEEN, ids=lambda b: getattr(b, "__name__", "layer"))
def test_padded_pools(between, backend, images):
    model = Net(between).eval()
    quantized = repq_fx.quantize(model, images, backend=backend, progress=False)
    with torch.no_grad():
        for batch in (images, torch.randn(2, 3, 10, 6)):
            assert repq_fx.analysis.sqnr_db(model(batch), quantized(batch)) > 30


@pytest.mark.parametrize(
    "between",
    [padded_by_function, padded_by_place, PadLayer(), padded_by_a_low_number],
    ids=["function", "place", "layer", "low"],
)
def test_the_padding_is_an_integer_instruction(between, images):
    quantized = repq_fx.quantize(Net(between).eval(), images, progress=False)
    assert [node.op for node in quantized.graph.nodes] == ["placeholder", "call_module", "output"]


@pytest.mark.parametrize("equalization", [True, False])
def test_what_is_not_finite_is_named(equalization, images):
    model = Net(lambda y: torch.log(y - 100) + y).eval()
    scheme = repq_fx.Scheme(equalization=equalization)
    with pytest.raises(CalibrationError, match=r"'second'|at 'add'") as raised:
        repq_fx.quantize(model, images, scheme=scheme, progress=False)
    assert "\n" not in str(raised.value)
