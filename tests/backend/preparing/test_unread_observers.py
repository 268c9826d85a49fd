"""Tensors that no quantized layer reads have no grid, and no observer sees their values."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.ao.quantization.quantize_fx import prepare_fx

import repq_fx
from repq_fx import api
from repq_fx.lowering.reference_grids import QUANTIZE
from repq_fx.quant import ActivationObserver


class Attention(nn.Module):
    """One head with an additive mask."""

    def __init__(self, masked):
        super().__init__()
        self.query, self.key, self.value, self.head = (nn.Linear(8, 8) for _ in range(4))
        self.register_buffer(
            "mask", torch.zeros(6, 6).masked_fill(torch.ones(6, 6).triu(1) > 0, masked)
        )

    def forward(self, tokens):
        scores = self.query(tokens) @ self.key(tokens).transpose(1, 2) + self.mask
        return self.head(scores.softmax(-1) @ self.value(tokens))


class Logarithm(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, image):
        return torch.log(torch.relu(self.conv(image)) + 1e-5)


class Chain(nn.Module):
    """A sum, a pool and a concatenation, of which a layer reads the result, or none does."""

    def __init__(self, head):
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), head

    def forward(self, image):
        total = F.relu(self.left(image) + self.right(image))
        pooled = F.avg_pool2d(total, 2)
        return self.head(torch.cat([F.max_pool2d(pooled, 2), pooled[:, :, :3, :3].tanh()], 1))


class TwoConvolutions(nn.Module):
    """A layer reads a function of two convolutions."""

    def __init__(self, function):
        super().__init__()
        self.left, self.right, self.head = (nn.Conv2d(c, 4, 1) for c in (3, 3, 4))
        self.function = function

    def forward(self, image):
        return self.head(self.function(self.left(image), self.right(image)))


def observed(prepared):
    called = [n for n in prepared.graph.nodes if n.op == "call_module"]
    return [
        str(n.args[0])
        for n in called
        if isinstance(prepared.get_submodule(n.target), ActivationObserver)
    ]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("backend", ["reference", "int8"])
@pytest.mark.parametrize("masked", [-1e9, -3.4e38, -math.inf], ids=str)
def test_a_mask_before_a_softmax_costs_nothing(masked, backend):
    model, tokens = Attention(masked).eval(), torch.randn(4, 6, 8)
    quantized = repq_fx.quantize(model, tokens, backend=backend, progress=False)
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(model(tokens), quantized(tokens)) > 38


class MaskedBy(Attention):
    """Its mask is an input."""

    def forward(self, tokens, mask):
        scores = self.query(tokens) @ self.key(tokens).transpose(1, 2) + mask
        return self.head(scores.softmax(-1) @ self.value(tokens))


@pytest.mark.parametrize("masked", [-1e9, -math.inf], ids=str)
def test_a_mask_may_be_an_input(masked):
    model, tokens = MaskedBy(masked).eval(), torch.randn(4, 6, 8)
    batch = (tokens, model.mask.clone().expand(4, 6, 6))
    quantized = repq_fx.quantize(model, [batch], batch, progress=False)
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(model(*batch), quantized(*batch)) > 38


def test_an_infinite_input_that_a_layer_reads_is_named():
    class Sum(TwoConvolutions):
        def forward(self, image, other):
            return self.head(self.left(image) + self.right(other))

    model, images = Sum(None).eval(), torch.randn(2, 3, 8, 8)
    batch = (images, torch.full_like(images, -math.inf))
    with pytest.raises(repq_fx.CalibrationError, match="'right' reads or returns NaN or inf"):
        repq_fx.quantize(model, [batch], (images, images), progress=False)


def test_a_logarithm_reads_what_is_not_rounded():
    model, images = Logarithm().eval(), torch.randn(4, 3, 9, 9)
    quantized = repq_fx.quantize(model, images, progress=False)
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(model(images), quantized(images)) > 20


def test_what_a_layer_reads_in_the_end_keeps_its_grids():
    images = torch.randn(2, 3, 16, 16)
    prepared = api.prepare(Chain(nn.Conv2d(8, 2, 1)).eval(), images, repq_fx.Scheme())
    names = ["image", "left", "right", "relu", "avg_pool2d", "max_pool2d", "tanh", "cat"]
    assert observed(prepared) == names


@pytest.mark.parametrize("head", [nn.Identity(), nn.Softmax(1), nn.LayerNorm(3)], ids=repr)
def test_what_no_layer_reads_has_none(head):
    images = torch.randn(2, 3, 16, 16)
    prepared = api.prepare(Chain(head).eval(), images, repq_fx.Scheme())
    assert observed(prepared) == ["image"]


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda left, right: left / (right.exp() + 1), ["image", "truediv"]),
        (lambda left, right: torch.clamp(left, min=right), ["image", "clamp"]),
        (lambda left, right: left / 3 + right, ["image", "left", "right", "truediv", "add"]),
        (
            lambda left, right: left.clamp(min=-1) + right,
            ["image", "right", "clamp", "add"],
        ),
    ],
    ids=["of two", "clamped by another", "by a number", "clamped by a number"],
)
def test_only_functions_of_one_tensor_have_an_integer_form(function, names):
    prepared = api.prepare(
        TwoConvolutions(function).eval(), torch.randn(2, 3, 8, 8), repq_fx.Scheme()
    )
    assert observed(prepared) == names


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
def test_convert_drops_what_stock_prepare_observes():
    model, tokens = Attention(-1e9).eval(), torch.randn(4, 6, 8)
    mapping, backend = repq_fx.get_qconfig_mapping(repq_fx.Scheme()), repq_fx.get_backend_config()
    prepared = prepare_fx(model, mapping, (tokens,), backend_config=backend)
    assert "add" in observed(prepared)
    repq_fx.calibrate(prepared, tokens, progress=False)
    reference = repq_fx.convert(prepared, "reference")
    rounded = [str(n.args[0]) for n in reference.graph.nodes if n.target is QUANTIZE]
    assert rounded == ["tokens", "matmul_1"]
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(model(tokens), reference(tokens)) > 38
