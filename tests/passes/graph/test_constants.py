"""What is constant in a graph, and layers that compute it from parameters."""

import operator
import time
from typing import NamedTuple

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from repq_fx.passes.graph.constants import Constants
from repq_fx.passes.graph.run import LikeRecorder


class Weights(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4, 3, 3))
        self.other = nn.Parameter(torch.randn(4, 4))
        self.register_buffer("mask", torch.eye(4).view(4, 4, 1, 1))


class Values(NamedTuple):
    """What the functions below compute with: an input and the tensors of `Weights`."""

    x: torch.Tensor
    weight: torch.Tensor
    other: torch.Tensor
    mask: torch.Tensor


def call(values, function, *args, **kwargs):
    """Call a function; torch.fx would not record one without proxies, nor an in-place operator."""
    if isinstance(values.x, fx.Proxy):
        return values.x.tracer.create_proxy("call_function", function, args, kwargs)
    return function(*args, **kwargs)


CONSTANT = {
    "parameter": lambda v: v.weight,
    "buffer": lambda v: v.mask,
    "einsum": lambda v: torch.einsum("oihw,ij->ojhw", v.weight, v.other),
    "view": lambda v: v.weight.view(4, -1).t(),
    "mask_product": lambda v: v.weight * v.mask,
    "sum_of_branches": lambda v: v.weight + F.pad(v.other[:, :, None, None], (1, 1, 1, 1)),
    "standardised": lambda v: (v.weight - v.weight.mean((1, 2, 3), keepdim=True)) / 2,
    "chunk": lambda v: v.weight.chunk(2)[1],
    "size": lambda v: v.other * v.weight.shape[0],
    "kwargs": lambda v: torch.add(input=v.other, other=v.other, alpha=3),
    "zeros": lambda v: call(v, torch.zeros, 4),
    "full": lambda v: call(v, torch.full, (2, 3), 1.5),
    "eye": lambda v: v.other + call(v, torch.eye, 4),
    "arange": lambda v: call(v, torch.arange, 4, dtype=torch.float32),
    "exported_ones": lambda v: call(v, torch.ops.aten.ones.default, [2]),
    "exported_product": lambda v: call(v, torch.ops.aten.mul.Tensor, v.other, v.other),
}
CHANGING = {
    "placeholder": lambda v: v.x,
    "of_the_input": lambda v: v.weight * v.x.mean(),
    "size_of_the_input": lambda v: v.weight * v.x.shape[0],
    "keyword_of_the_input": lambda v: torch.add(v.weight, other=v.x.mean()),
    "in_a_list": lambda v: torch.stack([v.other, v.x[0, 0]]),
    "dropout": lambda v: F.dropout(v.weight),
    "rand_like": lambda v: torch.rand_like(v.weight),
    "randn": lambda v: call(v, torch.randn, 4),
    "bernoulli": lambda v: v.mask.bernoulli(),
    "of_a_draw": lambda v: v.weight * torch.randn_like(v.weight),
    "in_place_parameter": lambda v: v.weight.add_(1),
    "in_place_computed": lambda v: (v.weight * 2).mul_(3),
    "augmented": lambda v: call(v, operator.imul, v.weight, 2),
    "output_argument": lambda v: torch.add(v.other, 1, out=v.other),
    "exported_in_place": lambda v: call(v, torch.ops.aten.add_.Tensor, v.other, 1),
    "clock": lambda v: call(v, time.monotonic),
    "of_a_clock": lambda v: v.weight * call(v, time.monotonic),
    "empty": lambda v: call(v, torch.empty, 4),
}
MUTATED = {
    "parameter": lambda v: (v.weight, v.weight.add_(1)),
    "computed": lambda v: (y := v.weight * 2, y.mul_(3)),
    "read_before": lambda v: (v.weight * 2, v.weight.zero_()),
    "augmented": lambda v: (v.weight, call(v, operator.iadd, v.weight, 1)),
    "entry": lambda v: (v.weight, call(v, operator.setitem, v.weight, 0, 1.0)),
    "factory": lambda v: (y := call(v, torch.zeros, 4), y.add_(1)),
}


def constants_of(function):
    """The constants of the graph that `function` records, the node of its result, the module."""
    graph = fx.Graph()
    nodes = (graph.placeholder("x"), *map(graph.get_attr, ("weight", "other", "mask")))
    tracer = fx.proxy.GraphAppendingTracer(graph)
    inputs = Values(*(fx.Proxy(node, tracer) for node in nodes))
    graph.output(fx.node.map_aggregate(function(inputs), lambda proxy: proxy.node))
    module = fx.GraphModule(Weights(), graph)
    return Constants(module), graph.output_node().args[0], module


@pytest.mark.parametrize("function", CONSTANT.values(), ids=CONSTANT.keys())
def test_value_of_a_constant(function):
    constants, node, module = constants_of(function)
    assert node in constants
    expected = function(Values(torch.empty(0), module.weight, module.other, module.mask))
    torch.testing.assert_close(constants.value(node), expected.detach(), rtol=0, atol=0)


@pytest.mark.parametrize("function", CHANGING.values(), ids=CHANGING.keys())
def test_what_is_no_constant(function):
    constants, node, _ = constants_of(function)
    assert node not in constants
    assert constants.value(node) is None


@pytest.mark.parametrize("function", MUTATED.values(), ids=MUTATED.keys())
def test_what_is_overwritten_is_no_constant(function):
    constants, nodes, module = constants_of(function)
    before = module.weight.detach().clone()
    assert [node in constants for node in nodes] == [False, False]
    assert [constants.value(node) for node in nodes] == [None, None]
    assert torch.equal(module.weight, before)


def test_only_nodes_that_stand_for_tensors_have_a_value():
    constants, nodes, _ = constants_of(lambda v: (v.weight.shape, v.weight.chunk(2)))
    assert all(node in constants for node in nodes)
    operands = (*nodes, None, 2.0, "weight", torch.ones(2))
    assert [constants.value(operand) for operand in operands] == [None] * 6


def test_value_is_computed_once_and_without_gradient():
    calls = []

    def double(tensor):
        calls.append(torch.is_grad_enabled())
        return tensor * 2

    constants, (first, second), _ = constants_of(lambda v: (y := call(v, double, v.weight), y - 1))
    assert calls == []
    value = constants.value(first)
    assert constants.value(first) is value
    assert torch.equal(constants.value(second), value - 1)
    assert calls == [False]
    assert not value.requires_grad


def test_values_are_not_computed_from_a_copy_of_the_weights():
    constants, node, module = constants_of(lambda v: v.weight)
    assert constants.value(node) is module.weight


def test_reads_are_the_tensors_below():
    constants, (both, size, made), _ = constants_of(
        lambda v: ((v.weight * v.mask).flatten() + 1, v.other.shape[0], call(v, torch.ones, 2))
    )
    assert [read.target for read in constants.reads(both)] == ["weight", "mask"]
    assert [read.target for read in constants.reads(size)] == ["other"]
    assert list(constants.reads(made)) == []
    assert list(constants.reads(both.args[0])) == list(constants.reads(both))


def test_convolution_by_a_masked_weight_is_merged(merge_exactly):
    class Masked(Weights):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            weight = torch.einsum("oihw,ij->ojhw", self.weight * self.mask, self.other)
            return self.norm(F.conv2d(x, weight, padding=1))

    merged = merge_exactly(Masked(), torch.randn(2, 4, 5, 6))
    assert [node.op for node in merged.graph.nodes] == ["placeholder", "call_module", "output"]
    assert sum(parameter.numel() for parameter in merged.parameters()) == 4 * 4 * 9 + 4
    assert list(merged.buffers()) == []


LIKES = {
    "device": lambda v: v.weight.to(v.x.device),
    "dtype": lambda v: v.weight.to(v.x.dtype),
    "dtype_and_device": lambda v: v.weight.to(device=v.x.device, dtype=v.x.dtype),
    "to": lambda v: v.weight.to(v.x),
    "type_as": lambda v: v.weight.type_as(v.x) * 2,
    "float": lambda v: v.weight.float(),
    "stored": lambda v: v.weight.contiguous().clone().detach(),
    "type_of_a_computed_value": lambda v: v.weight.type_as(v.x.mean()),
    "axes": lambda v: v.other.mean(v.x.ndim - 4) * v.x.dim(),
}
NOT_LIKES = {
    "size": lambda v: v.other * v.x.shape[0],
    "contents": lambda v: v.weight.sum() * v.x.type_as(v.weight),
    "device_and_contents": lambda v: v.weight.to(v.x.device) + v.x.mean(),
    "overwritten_as_a_type": lambda v: v.weight.type_as(v.x).add_(1),
}


def constants_with_likes(function, dtype):
    _, node, module = constants_of(function)
    image = torch.randn(2, 4, 5, 5, dtype=dtype)
    likes = {}
    with torch.no_grad():
        LikeRecorder(module, likes).run(image)
    return Constants(module, likes), node, module, image


@pytest.mark.parametrize("function", LIKES.values(), ids=LIKES.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_asking_an_input_for_its_type_leaves_a_constant(function, dtype):
    constants, node, module, image = constants_with_likes(function, dtype)
    assert node in constants
    expected = function(Values(image, module.weight, module.other, module.mask)).detach()
    torch.testing.assert_close(constants.value(node), expected, rtol=0, atol=0)
    assert {each.op for each in constants.reads(node)} == {"get_attr"}


@pytest.mark.parametrize("function", NOT_LIKES.values(), ids=NOT_LIKES.keys())
def test_reading_an_input_is_no_question(function):
    constants, node, *_ = constants_with_likes(function, torch.float32)
    assert node not in constants


class Gate(nn.Module):
    """Layers on a parameter."""

    def __init__(self, *layers):
        super().__init__()
        self.start = nn.Parameter(torch.randn(2, 3))
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x * self.layers(self.start)


def gate_of(*layers, training=False):
    gate = Gate(*layers)
    traced = fx.symbolic_trace(gate).train(training)
    (product,) = traced.graph.find_nodes(op="call_function", target=operator.mul)
    return Constants(traced), product.args[1], gate


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in_place"])
def test_layers_on_a_parameter_are_constant(inplace):
    layers = nn.Linear(3, 3), nn.ReLU(inplace), nn.Linear(3, 3), nn.Sigmoid()
    constants, node, gate = gate_of(*layers)
    expected = gate.layers(gate.start).detach()
    torch.testing.assert_close(constants.value(node), expected, rtol=0, atol=0)


def test_layers_that_draw_or_overwrite_are_no_constants():
    hooked = nn.Linear(3, 3)
    hooked.register_forward_hook(lambda *call: call[-1] * 2)
    for layers in ([nn.Dropout()], [hooked], [nn.ReLU(inplace=True)]):
        is_dropout = isinstance(layers[0], nn.Dropout)
        constants, node, _ = gate_of(*layers, training=is_dropout)
        assert node not in constants


class Gated(nn.Module):
    """A convolution, an activation, and a gate that layers compute from a parameter."""

    def __init__(self, size=1, *, trained=True):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.start = nn.Parameter(torch.randn(1, 2, 1, 1))
        self.gate = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1))
        self.size = size
        self.requires_grad_(trained)

    def forward(self, x):
        gate = torch.sigmoid(self.gate(self.start)).expand(1, 4, self.size, self.size)
        return F.relu(self.conv(x)) * gate


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "frozen"])
def test_gate_becomes_a_parameter(trained, merge_exactly, convs_of):
    merged = merge_exactly(Gated(trained=trained), torch.randn(2, 4, 8, 8))
    assert convs_of(merged) == ["conv"]
    (value,) = [p for name, p in merged.named_parameters() if not name.startswith("conv")]
    assert value.shape == (1, 4, 1, 1)
    assert value.requires_grad == trained


def test_value_that_is_larger_than_its_parts_is_computed(merge_exactly, convs_of):
    model = Gated(size=8)
    merged = merge_exactly(model, torch.randn(2, 4, 8, 8))
    assert sorted(convs_of(merged)) == ["conv", "gate.0", "gate.2"]
    assert len(merged.state_dict()) == len(model.state_dict())
