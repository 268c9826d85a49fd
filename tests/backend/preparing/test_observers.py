"""Which tensors have observers, and what these count."""

import logging
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.ao.quantization.quantize_fx import prepare_fx

import repq_fx
from repq_fx import api
from repq_fx.backend.prepared_view import PreparedView
from repq_fx.errors import CalibrationError
from repq_fx.lowering.grids import QUANTIZE
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


class NetWithPool(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.between = between

    def forward(self, image):
        return self.second(self.between(self.first(image)))


class PadLayer(nn.Sequential):
    def __init__(self):
        super().__init__(nn.ConstantPad2d((0, 1, 0, 1), -math.inf), nn.MaxPool2d(3, 2))


POOLS = [
    padded_by_function, padded_by_place, padded_like_timm, read_elsewhere_too, PadLayer(),
    padded_by_the_lowest_number, padded_by_a_low_number, a_low_number_read_elsewhere_too,
]  # fmt: skip


@pytest.mark.parametrize("backend", ["reference", "int8"])
@pytest.mark.parametrize("between", POOLS, ids=lambda b: getattr(b, "__name__", "layer"))
def test_padded_pools(between, backend, images):
    model = NetWithPool(between).eval()
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
    quantized = repq_fx.quantize(NetWithPool(between).eval(), images, progress=False)
    assert [node.op for node in quantized.graph.nodes] == ["placeholder", "call_module", "output"]


@pytest.mark.parametrize("equalization", [True, False])
def test_what_is_not_finite_is_named(equalization, images):
    model = NetWithPool(lambda y: torch.log(y - 100) + y).eval()
    scheme = repq_fx.Scheme(equalization=equalization)
    with pytest.raises(CalibrationError, match=r"'second'|at 'add'") as raised:
        repq_fx.quantize(model, images, scheme=scheme, progress=False)
    assert "\n" not in str(raised.value)


class NetWithMap(nn.Module):
    """Adds a map with an outlier, or multiplies by it, between two convolutions."""

    def __init__(self, combine, shape):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        values = torch.rand(shape)
        values.view(-1)[-1] = 20
        self.map = nn.Parameter(values)
        self.combine = combine

    def forward(self, x):
        return self.last(self.combine(self.first(x).relu(), self.map))


SHAPES = [(8, 8), (1, 8, 8, 8), (1, 1, 8, 8), (8, 1), (1, 8)]
IMAGES = torch.randn(16, 3, 8, 8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("combine", [torch.add, torch.mul, torch.sub], ids=["add", "mul", "sub"])
def test_no_value_of_a_parameter_is_clipped(combine, shape, caplog):
    model = NetWithMap(combine, shape).eval()
    prepared = api.prepare(repq_fx.trace(model, IMAGES), IMAGES, repq_fx.Scheme())
    with caplog.at_level(logging.WARNING):
        repq_fx.calibrate(prepared, IMAGES, progress=False)
        lowered = repq_fx.convert(prepared)
    assert not caplog.records
    observers = PreparedView.of(prepared, "test").observers.values()
    (observer,) = (o for o in observers if o.histogram.highest == 20)
    grid = observer.parameters_of_range()
    assert grid.scale * (255 - grid.zero_point) == pytest.approx(20, rel=1e-2)
    assert [node.op for node in lowered.graph.nodes if node.op == "call_function"] == []
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(model(IMAGES), lowered(IMAGES)) > 25


def test_one_value_everywhere_is_no_reason_to_warn(caplog):
    model = NetWithMap(torch.add, (1, 8, 8, 8)).eval()
    nn.init.constant_(model.map, 0.5)
    with caplog.at_level(logging.WARNING):
        repq_fx.quantize(model, IMAGES, progress=False)
    assert not caplog.records
