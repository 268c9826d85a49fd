import operator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.fx import symbolic_trace
from torch.nn import functional as F

from repq_fx.passes.gathering.elementwise_function import ElementwiseFunction, ScaledActivation
from repq_fx.passes.gathering.functions import gather_functions


class Net(nn.Module):
    """A function of the result of a convolution, with parameters of several shapes."""

    def __init__(self, function):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
        self.number, self.one = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.tensor([1.3]))
        for name, shape in {
            "channels": (4, 1, 1), "image_channels": (1, 4, 1, 1), "columns": (6,), "map": (6, 6),
        }.items():  # fmt: skip
            self.register_buffer(name, torch.rand(shape) + 0.5)
        self.prelu, self.norm, self.act = nn.PReLU(4), nn.BatchNorm2d(4), nn.SiLU()
        self.identity = nn.Identity()
        self.function = function

    def forward(self, x):
        return self.second(self.function(self, self.first(x)))


def written_in_place(net, x):
    x = F.relu(x, inplace=True)
    x *= net.one
    x += 1
    return x


def gathered(function, kept=lambda _: (), image=(2, 3, 6, 6)):
    model = Net(function).eval().double()
    model.norm.running_var.uniform_(0.5, 2)
    nn.init.uniform_(model.prelu.weight, 0.1, 0.3)
    graph = symbolic_trace(model)
    inputs = (torch.randn(image, dtype=torch.float64),)
    known = model(*inputs)
    gather_functions(graph, inputs, kept(graph))
    torch.testing.assert_close(graph(*inputs), known, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(graph(inputs[0][:1]), model(inputs[0][:1]), rtol=1e-5, atol=1e-5)
    between = [node for node in graph.graph.nodes if node.op not in ("placeholder", "output")]
    assert [node.target for node in between[:1] + between[-1:]] == ["first", "second"]
    return [
        type(graph.get_submodule(node.target)) if node.op == "call_module" else node.target
        for node in between[1:-1]
    ]


ONE_LAYER = {
    "hard_swish": (lambda _, x: x * F.relu6(x + 3) / 6, nn.Hardswish),
    "hard_swish_by_buffers": (lambda net, x: net.number * (x * F.relu6(x + 3)) + net.one,
                              ScaledActivation),
    "gate": (lambda _, x: x.sigmoid() * x, nn.SiLU),
    "scaled_relu": (lambda net, x: net.one * F.relu(x) + net.number, ScaledActivation),
    "clip": (lambda _, x: torch.clip(x, -1, 2), nn.Hardtanh),
    "lower_bound": (lambda _, x: x.clamp(min=0), nn.ReLU),
    "upper_bound": (lambda _, x: x.clamp(max=2), nn.Hardtanh),
    "square": (lambda _, x: x * x, ElementwiseFunction),
    "functional_prelu": (lambda net, x: F.prelu(x, net.prelu.weight), ElementwiseFunction),
    "exp": (lambda _, x: x.exp(), ElementwiseFunction),
    "mish": (lambda _, x: x * torch.tanh(F.softplus(x)), ElementwiseFunction),
    "one_number": (lambda net, x: x * net.one, ElementwiseFunction),
    "channels": (lambda net, x: x * net.channels + net.image_channels, ElementwiseFunction),
    "norm_of_relu": (lambda net, x: net.norm(x.relu()), ScaledActivation),
    "gate_of_each_channel": (lambda net, x: net.channels * x * x.sigmoid() + net.image_channels,
                             ScaledActivation),
    "prelu_of_one_slope": (lambda _, x: F.prelu(x, torch.full((4,), 0.2).double()), nn.LeakyReLU),
    "other_gates_of_channels": (lambda net, x: x * (net.channels * x).sigmoid(),
                                ElementwiseFunction),
    "prelu": (lambda net, x: net.prelu(x) / 2, ElementwiseFunction),
    "in_place": (written_in_place, ScaledActivation),
    "where": (lambda _, x: torch.where(x > 0, x, 0.1 * x), nn.LeakyReLU),
    "where_method": (lambda _, x: x.where(x > 0, torch.zeros_like(x)), nn.ReLU),
    "masked": (lambda _, x: x.masked_fill(x < 0, 0.0), nn.ReLU),
    "product_with_a_decision": (lambda _, x: x * (x > 0), nn.ReLU),
    "product_with_a_number": (lambda _, x: x * (x > 0).to(x.dtype) + 1, ScaledActivation),
    "type_of_itself": (lambda _, x: x * torch.logical_not(x <= 0).type_as(x), nn.ReLU),
    "maximum_of_zeros": (lambda _, x: torch.maximum(x, torch.zeros_like(x)), nn.ReLU),
    "two_decisions": (lambda _, x: torch.where((x > -1) & (x < 1), x, x.sign()), nn.Hardtanh),
    "step": (lambda _, x: (x > 0.5).to(x.dtype) + x, ElementwiseFunction),
    "subtracted_from": (lambda net, x: net.one - x, ElementwiseFunction),
    "computed_constant": (lambda net, x: x * (net.one + net.number).exp(), ElementwiseFunction),
    "size_of_a_constant": (lambda net, x: (x + 1) / net.channels.shape[0] + 1, ElementwiseFunction),
}  # fmt: skip
OTHERS = {
    "a_decision_for_others": (lambda _, x: torch.where(x.relu() > 0, x.mean(), x),
                              ["relu", operator.gt, "mean", torch.where]),
    "a_decision_of_others": (lambda _, x: torch.where(x.mean(1, True) > 0, x, x.relu()),
                             ["mean", operator.gt, "relu", torch.where]),
    "identities": (lambda net, x: net.identity(net.identity(x)), [nn.Identity] * 2),
    "norm_to_fold": (lambda net, x: net.norm(x).relu(), [nn.BatchNorm2d, "relu"]),
    "one_activation": (lambda net, x: net.act(x), [nn.SiLU]),
    "one_number": (lambda _, x: x + 1, [operator.add]),
    "along_the_last_axis": (lambda net, x: (x * net.columns).relu(),
                            ["columns", operator.mul, "relu"]),
    "a_map": (lambda net, x: x + net.map, ["map", operator.add]),
    "over_pixels": (lambda _, x: x / x.mean((2, 3), keepdim=True), ["mean", operator.truediv]),
}  # fmt: skip


@pytest.mark.parametrize(("function", "layer"), ONE_LAYER.values(), ids=ONE_LAYER)
def test_a_function_becomes_one_layer(function, layer):
    assert gathered(function) == [layer]


@pytest.mark.parametrize(("function", "left"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_such_function_stays(function, left):
    assert gathered(function) == left


def test_what_something_else_reads_too_ends_a_function():
    def function(net, x):
        x = x * net.one + 1
        return torch.cat([F.relu(x) * 2 - 1, x], 1)[:, :4]

    assert gathered(function)[:2] == [ElementwiseFunction, ScaledActivation]


def test_functions_of_one_tensor_may_share_steps():
    def function(net, x):
        x = x * net.one
        return F.softmax(x * 2 + 1, 1) + F.softmax(x * 3 + 1, 1)

    assert gathered(function).count(ElementwiseFunction) == 2


def test_functions_after_one_another():
    def function(net, x):
        x = F.relu(x) * 2 + net.one
        return F.relu(F.max_pool2d(x, 3, 1, 1)) * 2 + 1

    assert gathered(function) == [ScaledActivation, F.max_pool2d, ScaledActivation]


def test_modules_with_a_wish_of_their_own_stay():
    function = ONE_LAYER["norm_of_relu"][0]
    assert gathered(function, lambda graph: [graph.norm]) == ["relu", nn.BatchNorm2d]


def test_one_channel_is_no_number_of_channels():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.PReLU(1), nn.Hardswish()).eval()
    graph = symbolic_trace(model)
    gather_functions(graph, (torch.randn(2, 1, 4, 4),))
    (function,) = (m for m in graph.modules() if isinstance(m, ElementwiseFunction))
    assert function.channels is None


STEPS = st.sampled_from([
    lambda x, c: x + c, lambda x, c: c - x, lambda x, c: x * c, lambda x, c: c * x,
    lambda x, _: F.relu(x), lambda x, _: x * torch.sigmoid(x), lambda x, _: x.clamp(-1, 2),
    lambda x, c: torch.maximum(x, c * x), lambda x, _: -x, lambda x, _: F.hardsigmoid(x) * x,
])  # fmt: skip


@given(steps=st.lists(STEPS, min_size=2, max_size=6), seed=st.integers(0, 999))
def test_any_chain_is_the_function_it_was(steps, seed):
    torch.manual_seed(seed)

    def function(net, x):
        for index, step in enumerate(steps):
            x = step(x, (net.number, net.one, net.channels, net.image_channels)[index % 4])
        return x

    assert len(gathered(function)) == 1
