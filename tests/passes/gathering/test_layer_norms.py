import operator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.fx import symbolic_trace

import repq_fx
from repq_fx.passes.gathering.layer_norms import gather_norms


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
