"""Overrides that match nothing are refused, before calibration."""

import re

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import Override, Scheme
from repq_fx.backend.reference import ReferenceConv2d, ReferenceLinear


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage1 = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), nn.Conv2d(4, 4, 1)
        )
        self.head = nn.Linear(4, 2)

    def forward(self, image):
        return self.head(self.stage1(image).mean((2, 3)))


def quantized(target):
    torch.manual_seed(0)
    images = torch.randn(4, 3, 8, 8)
    scheme = Scheme.plain(8, 8, repq_fx.PerChannel(), repq_fx.MinMax())
    return repq_fx.quantize(
        Net().eval(), images, backend="reference", progress=False,
        scheme=scheme.with_overrides(Override(target, None)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("hed", "'hed' matches no module of the model; the nearest is 'head'"),
        ("stagel.1", "'stagel.1' matches no module .* nearest is 'stage1.1'"),
        (re.compile("stag2"), "'stag2' matches no module .* nearest is 'stage1'"),
        (nn.Bilinear, "'Bilinear' matches no module .* nearest is 'Linear'"),
        ("stage1.0.1", "'stage1.0.1' is in the model, but merging"),
        (nn.BatchNorm2d, "'BatchNorm2d' is in the model, but merging"),
    ],
    ids=["name", "block", "expression", "type", "merged name", "merged type"],
)
def test_what_matches_nothing(target, message):
    with pytest.raises(ValueError, match=message):
        quantized(target)


@pytest.mark.parametrize(
    ("target", "in_float"),
    [
        ("head", {"head"}),
        ("stage1.0", {"stage1.0.0"}),
        ("stage1", {"stage1.0.0", "stage1.1"}),
        (re.compile(r"stage1\.[01]"), {"stage1.0.0", "stage1.1"}),
        (nn.Conv2d, {"stage1.0.0", "stage1.1"}),
    ],
    ids=["name", "block", "stage", "expression", "type"],
)
def test_what_matches(target, in_float):
    found = {
        name
        for name, module in quantized(target).named_modules()
        if not isinstance(module, ReferenceConv2d | ReferenceLinear)
        and isinstance(module, nn.Conv2d | nn.Linear)
    }
    assert found == in_float


def test_leaves_need_not_be_called():
    model = Net()
    model.unused = nn.Linear(4, 2)
    repq_fx.quantize(model.eval(), torch.randn(4, 3, 8, 8), leaves=["unused"], progress=False)


def test_prepare_refuses_them_too():
    scheme = Scheme().with_overrides(Override("hed", None))
    with pytest.raises(ValueError, match="nearest is 'head'"):
        repq_fx.api.prepare(Net().eval(), torch.randn(4, 3, 8, 8), scheme)
