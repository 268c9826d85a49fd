"""Whole lowered networks at every rank, beside their references."""

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import nn

import repq_fx
from repq_fx import api
from repq_fx.lowering.int8.instructions import Int8Program


class Of(nn.Module):
    """A function of layers and the input."""

    def __init__(self, function, *layers):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x):
        return self.function(x, *self.layers)


def decibels(model, example, others=()):
    """The SQNR of the reference and of the lowered network, for each of the inputs."""
    model.eval()
    prepared = api.prepare(model, example, repq_fx.Scheme())
    repq_fx.calibrate(prepared, example, progress=False)
    networks = [repq_fx.convert(prepared, backend) for backend in ("reference", "int8")]
    with torch.no_grad():
        for inputs in (example, *others):
            expected = model(inputs)
            results = [network(inputs) for network in networks]
            assert all(result.shape == expected.shape for result in results)
            yield [repq_fx.analysis.sqnr_db(expected, result) for result in results]


def assert_as_good(model, example, *others):
    for reference, lowered in decibels(model, example, others):
        assert lowered >= min(reference, 60) - 1


def mlp():
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))


@pytest.mark.parametrize(
    ("example", "other"),
    [
        ((4, 8, 6, 8), (3, 5, 7, 8)), ((4, 8, 6, 8), (4, 6, 8, 8)), ((16, 8), (3, 8)),
        ((4, 5, 8), (2, 8, 8)), ((2, 3, 2, 5, 8), (1, 8, 3, 4, 8)), ((2, 3, 2, 5, 8), (8,)),
    ],
    ids=str,
)  # fmt: skip
def test_linear_layers(example, other):
    assert_as_good(mlp(), torch.randn(example), torch.randn(other))
    strided = torch.randn(example).transpose(0, -2).transpose(0, -2).flip(0)
    assert_as_good(mlp(), strided, torch.randn(other[::-1]).permute(*range(len(other))[::-1]))


def conv(channels=8, out=8, **options):
    return nn.Conv2d(channels, out, 3, padding=1, **options)


NETS = {
    "linear on an image": (lambda x, a, b: b(F.relu(a(x))), (conv(), nn.Linear(8, 8))),
    "linear, then conv": (lambda x, a, b: b(F.relu(a(x))), (nn.Linear(8, 8), conv())),
    "both on one": (lambda x, a, b: a(x) + b(x), (conv(), nn.Linear(8, 8))),
    "sum of the layers": (lambda x, a, b: b(F.relu(a(x)) + x), (nn.Linear(8, 8), conv())),
    "gate": (
        lambda x, a, b: b(x * torch.sigmoid(a(F.adaptive_avg_pool2d(x, 1)))), (conv(), conv())
    ),
    "gate over columns": (lambda x, a, b: b(x * torch.sigmoid(a(x.mean((1,), keepdim=True)))),
                          (nn.Linear(8, 8), conv())),
    "flat": (lambda x, a, b: b(F.relu(a(x)).flatten(1)), (nn.Linear(8, 4), nn.Linear(192, 5))),
    "cat": (lambda x, a, b: b(torch.cat([F.relu(a(x)), x], 1)), (nn.Linear(8, 8), conv(16))),
    "slice": (lambda x, a, b: b(F.relu(a(x))[:, 1:4]), (nn.Linear(8, 8), nn.Linear(8, 4))),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_layers_that_read_different_axes(name):
    function, layers = NETS[name]
    sizes = [(2, 8, 6, 8), (5, 8, 6, 8)]
    assert_as_good(Of(function, *layers), *(torch.randn(size) for size in sizes))


def test_an_image_without_a_batch():
    model = nn.Sequential(conv(3), nn.ReLU(), nn.MaxPool2d(2), conv(groups=8), nn.SiLU(), conv())
    assert_as_good(model, torch.randn(3, 16, 16), torch.randn(3, 12, 20), torch.randn(2, 3, 8, 8))


@st.composite
def models(draw):
    """Linear layers, functions and cuts on a tensor of rank 2 to 5, whose last axis is 8."""
    rank = draw(st.integers(2, 5))
    known = [part for part in PARTS if rank > 2 or part not in {"cat", "double"}]
    parts = draw(st.lists(st.sampled_from(known), min_size=1, max_size=4))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    layers = [PARTS[part]() for part in parts]
    sizes = [[draw(st.integers(2, 7)) for _ in range(rank - 1)] for _ in range(2)]
    inputs = [torch.randn(*size, 8) for size in sizes]
    return nn.Sequential(nn.Linear(8, 8), *layers, nn.Linear(8, 8)), inputs


PARTS = {
    "linear": lambda: nn.Linear(8, 8),
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "residual": lambda: Of(lambda x, a: F.relu(a(x) + x), nn.Linear(8, 8)),
    "product": lambda: Of(lambda x, a: x * torch.sigmoid(a(x)), nn.Linear(8, 8)),
    "column": lambda: Of(lambda x, a: x * torch.sigmoid(a(x)), nn.Linear(8, 1)),
    "cat": lambda: Of(lambda x: torch.cat([x, F.relu(x)], 1)),
    "double": lambda: Of(lambda x: torch.cat([x, x], 1)[:, 0:1] + x),
}


@settings(max_examples=15)
@given(models())
def test_random_models(drawn):
    model, (example, other) = drawn
    assert_as_good(model, example, other)


def norm():
    layer = nn.BatchNorm2d(8)
    layer.running_mean.normal_(), layer.running_var.uniform_(0.5, 2)
    nn.init.uniform_(layer.weight, -1, 2)
    return layer


def channel_prelu():
    layer = nn.PReLU(8)
    nn.init.uniform_(layer.weight, -0.5, 0.5)
    return layer


def pool_to_rows(x):
    x = F.avg_pool2d(x, kernel_size=x.shape[3])
    return x.reshape(x.shape[0], -1)


def pool_to_view(x):
    y = F.avg_pool2d(x, x.size()[2:])
    return y.view(x.size(0), -1)


WHOLE = {
    "prelu of channels": channel_prelu(),
    "prelu": nn.PReLU(),
    "norm": nn.Sequential(nn.ReLU(), norm()),
    "norm and prelu": nn.Sequential(nn.ReLU(), norm(), channel_prelu()),
    "pool of columns": lambda x: F.avg_pool2d(x, x.size(3)),
    "pool of rows": lambda x: F.avg_pool2d(x, (x.size(2), 2)),
    "pad": lambda x: F.pad(F.relu(x), (1, 0, 2, 1)),
    "pad of columns": lambda x: F.pad(F.relu(x), (1, 2)),
    "pad by a value": lambda x: F.pad(x, (1, 0, 2, 1), value=0.5),
    "zero pad": nn.Sequential(nn.ReLU(), nn.ZeroPad2d((0, 1, 0, 1))),
    "every other": lambda x: F.relu(x)[:, :, ::2, 1:],
    "from the end": lambda x: F.relu(x)[..., 1:-1],
    "single row": lambda x: F.relu(x)[:, :, 0:1],
}


class Call(nn.Module):
    """A module that calls a function or a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def program_count(model, example):
    prepared = api.prepare(model.eval(), example, repq_fx.Scheme())
    repq_fx.calibrate(prepared, example, progress=False)
    lowered = repq_fx.convert(prepared, "int8")
    return sum(isinstance(module, Int8Program) for module in lowered.modules())


@pytest.mark.parametrize("name", WHOLE)
def test_a_net_stays_one_program(name):
    model = nn.Sequential(conv(3), Call(WHOLE[name]), conv())
    images = torch.randn(4, 3, 16, 16)
    assert program_count(model, images) == 1
    assert_as_good(model, images, torch.randn(2, 3, 26, 12))


@pytest.mark.parametrize("pool", [pool_to_rows, pool_to_view])
def test_a_pool_by_size_and_rows_stay_one_program(pool):
    model = nn.Sequential(conv(3), nn.ReLU(), Call(pool), nn.Linear(8, 5))
    images = torch.randn(4, 3, 16, 16)
    assert program_count(model, images) == 1
    assert_as_good(model, images, torch.randn(2, 3, 9, 9))


@pytest.mark.parametrize(
    "index",
    [(slice(None), 0), (Ellipsis, 0), (0,), (slice(None), slice(None, None, 2), -1)],
    ids=str,
)
def test_selected_parts(index):
    model = Of(
        lambda x, a, b: b(F.relu(a(x))[index].mean(-1, keepdim=True)),
        nn.Linear(8, 8), nn.Linear(1, 4),
    )  # fmt: skip
    assert_as_good(model, torch.randn(3, 5, 6, 8), torch.randn(2, 7, 4, 8))


def test_a_norm_of_the_batch_is_no_table():
    model = Of(lambda x, a, n, b: b(n(F.relu(a(x)))), conv(3),
               nn.BatchNorm2d(8, track_running_stats=False), conv())  # fmt: skip
    assert_as_good(model, torch.randn(4, 3, 8, 8), torch.randn(2, 3, 9, 7))
