"""Normalizations that a forward writes itself become layers."""

import operator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.fx import symbolic_trace

import repq_fx
from repq_fx.lowering.int8.instructions import Int8Program
from repq_fx.passes.gathering.norms import gather_norms


class Net(nn.Module):
    """A function of tokens, between layers, with parameters that a norm may have."""

    def __init__(self, function, width=6):
        super().__init__()
        self.first, self.second = nn.Linear(4, width), nn.Linear(width, 3)
        self.register_buffer("weight", torch.randn(width))
        self.register_buffer("bias", torch.randn(width))
        self.register_buffer("epsilon", torch.tensor(1e-5))
        self.register_buffer("two", torch.tensor(2.0))
        self.function = function

    def forward(self, x):
        return self.second(self.function(self, self.first(x)))


def as_exported(net, x):
    d = x - x.mean(-1, keepdim=True)
    variance = torch.pow(d, net.two).mean(-1, keepdim=True)
    return d / torch.sqrt(variance + net.epsilon) * net.weight + net.bias


def with_rsqrt(net, x):
    d = x - torch.mean(x, dim=[-1], keepdim=True)
    scale = torch.rsqrt(d.square().mean(dim=-1, keepdim=True) + 1e-3) * net.weight
    return net.bias + d * scale


def with_variance(_, x):
    return (x - x.mean(-1, True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6) ** 0.5


def with_mean_of_squares(net, x):
    mean = x.mean(-1, keepdim=True)
    variance = (x * x).mean(-1, keepdim=True) - mean * mean
    return net.weight * (x - mean) * (variance + 1e-2).rsqrt()


def residual(net, x):
    return x + as_exported(net, x)


def two_norms(net, x):
    return with_rsqrt(net, as_exported(net, x) * 2 + 1)


def read_inside(_, x):
    d = x - x.mean(-1, keepdim=True)
    return (d / (d.square().mean(-1, keepdim=True) + 1e-5).sqrt()).relu() + d.relu()


NORMS = {
    "as_exported": (as_exported, [nn.LayerNorm]),
    "with_rsqrt": (with_rsqrt, [nn.LayerNorm]),
    "with_variance": (with_variance, [nn.LayerNorm]),
    "with_mean_of_squares": (with_mean_of_squares, [nn.LayerNorm]),
    "residual": (residual, [nn.LayerNorm, operator.add]),
    "two_norms": (two_norms, [nn.LayerNorm] * 2),
}
OTHERS = {
    "root_mean_square": lambda _, x: x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt(),
    "over_tokens": lambda _, x: (x - x.mean(1, True)) / (x.var(1, keepdim=True) + 1e-5).sqrt(),
    "read_inside": read_inside,
    "unbiased": lambda _, x: (x - x.mean(-1, True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt(),
    "only_centred": lambda _, x: x - x.mean(-1, keepdim=True),
}  # fmt: skip


def gathered(function, x):
    model = Net(function).eval().double()
    graph = symbolic_trace(model)
    gather_norms(graph, (x,))
    for other in (x, torch.randn(5, *x.shape[1:]).double(), 1e-3 * x):
        torch.testing.assert_close(graph(other), model(other), rtol=1e-5, atol=1e-5)
    between = [node for node in graph.graph.nodes if node.op not in ("placeholder", "output")]
    assert [node.target for node in between[:1] + between[-1:]] == ["first", "second"]
    return [
        type(graph.get_submodule(node.target)) if node.op == "call_module" else node.target
        for node in between[1:-1]
    ]


@pytest.mark.parametrize("shape", [(2, 7, 4), (2, 3, 5, 4), (3, 4)], ids=str)
@pytest.mark.parametrize(("function", "layers"), NORMS.values(), ids=NORMS)
def test_a_norm_becomes_one_layer(function, layers, shape):
    assert gathered(function, torch.randn(shape).double()) == layers


@pytest.mark.parametrize("function", OTHERS.values(), ids=OTHERS)
def test_what_is_no_such_norm_stays(function):
    assert nn.LayerNorm not in gathered(function, torch.randn(2, 7, 4).double())


@given(
    epsilon=st.floats(1e-8, 1e-2), scale=st.floats(0.1, 10), shift=st.floats(-5, 5),
    order=st.permutations(range(3)),
)  # fmt: skip
def test_any_order_of_scales_is_the_norm_it_was(epsilon, scale, shift, order):
    def function(net, x):
        d = x - x.mean(-1, keepdim=True)
        root = (d.pow(2).mean(-1, keepdim=True) + epsilon).sqrt()
        factors = [lambda y: y / root, lambda y: y * net.weight, lambda y: scale * y]
        for index in order:
            d = factors[index](d)
        return d + net.bias + shift

    assert gathered(function, torch.randn(2, 3, 4).double()) == [nn.LayerNorm]


def test_constants_of_a_norm_have_no_grid():
    model, x = Net(as_exported, width=16).eval(), torch.randn(32, 9, 4)
    int8 = repq_fx.quantize(model, x, progress=False)
    assert all(node.op != "get_attr" for node in int8.graph.nodes)
    assert [type(m) for m in int8.modules()].count(nn.LayerNorm) == 1


class NormAndActivation(nn.BatchNorm2d):
    """As timm's: traced through, because its forward is its own."""

    def forward(self, input):
        return F.relu(
            F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias,
                self.training, 0.1, self.eps,
            )
        )  # fmt: skip


def dense(norm):
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1), norm
            self.second = nn.Conv2d(7, 5, 1)

        def forward(self, x):
            return self.second(self.norm(torch.cat([x, self.first(x).relu()], 1)))

    return Dense().eval()


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_a_norm_that_nothing_merges_with_is_a_layer(affine, randomize_batch_norm):
    model = randomize_batch_norm(dense(NormAndActivation(7, eps=0.1, affine=affine))).double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    merged = repq_fx.reparameterize(model, images)
    assert [type(each) for each in merged.modules()].count(nn.BatchNorm2d) == 1
    assert F.batch_norm not in [node.target for node in merged.graph.nodes]
    other = torch.randn(3, 3, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(merged(other), model(other), rtol=1e-9, atol=1e-9)


def test_it_has_an_integer_form(randomize_batch_norm):
    model = randomize_batch_norm(dense(NormAndActivation(7)))
    images = torch.randn(4, 3, 8, 8)
    int8 = repq_fx.quantize(model, images, progress=False)
    assert sum(isinstance(module, Int8Program) for module in int8.modules()) == 1
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(model(images), int8(images)) > 30


def test_statistics_of_the_batch_stay_a_function():
    class Batch(nn.BatchNorm2d):
        def forward(self, input):
            return F.batch_norm(input, None, None, self.weight, self.bias, True)

    merged = repq_fx.reparameterize(dense(Batch(7)), torch.randn(2, 3, 8, 8))
    assert F.batch_norm in [node.target for node in merged.graph.nodes]
