"""Every way to spell a call gives the same graph, and so is merged and lowered alike."""

# ruff: noqa: ARG005 (all spellings are called alike, with the net)
import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.fx import symbolic_trace
from torch.nn import functional as F

import repq_fx
from repq_fx import Scheme
from repq_fx.lowering.int8.lower import lower_to_int8
from repq_fx.passes.graph.canonical_calls import canonicalize_calls
from repq_fx.passes.graph.mutation import mutated_operand

QUICK = Scheme(gptq=False, output_search=False, sequential_ranges=False, equalization=False)
IMAGE = torch.randn(2, 4, 8, 8)


class Net(nn.Module):
    """What `function` does to an image with a convolution, a norm and a weight."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.weight = nn.Parameter(torch.randn(4, 4, 1, 1))

    def forward(self, x):
        return self.function(self, x)


# The first of each is the usual one.
SPELLINGS = {
    "module": [lambda m, x: m.conv(x), lambda m, x: m.conv(input=x)],
    "norm": [lambda m, x: m.norm(m.conv(x)), lambda m, x: m.norm(input=m.conv(input=x))],
    "convolution": [
        lambda m, x: F.conv2d(x, m.weight, None, 1, 0),
        lambda m, x: F.conv2d(x, m.weight, padding=0, stride=1, bias=None),
        lambda m, x: F.conv2d(input=x, weight=m.weight, bias=None, stride=1, padding=0),
        lambda m, x: F.conv2d(weight=m.weight, stride=1, padding=0, bias=None, input=x),
    ],
    "sum": [
        lambda m, x: torch.add(x, m.conv(x)),
        lambda m, x: torch.add(input=x, other=m.conv(x)),
        lambda m, x: torch.add(x, other=m.conv(x)),
    ],
    "sum method": [lambda m, x: x.add(m.conv(x)), lambda m, x: x.add(other=m.conv(x))],
    "concatenation": [
        lambda m, x: torch.cat([x, m.conv(x)], 1),
        lambda m, x: torch.cat([x, m.conv(x)], dim=1),
        lambda m, x: torch.cat(tensors=[x, m.conv(x)], dim=1),
    ],
    "relu": [
        lambda m, x: F.relu(m.conv(x), inplace=False),
        lambda m, x: F.relu(input=m.conv(x)),
        lambda m, x: F.relu(m.conv(x), False),
    ],
    "relu in place": [
        lambda m, x: F.relu(m.conv(x), inplace=True),
        lambda m, x: F.relu(m.conv(x), True),
        lambda m, x: F.relu(inplace=True, input=m.conv(x)),
    ],
    "hardtanh": [
        lambda m, x: F.hardtanh(m.conv(x), 0.0, 4.0, inplace=True),
        lambda m, x: F.hardtanh(m.conv(x), 0.0, 4.0, True),
        lambda m, x: F.hardtanh(m.conv(x), max_val=4.0, min_val=0.0, inplace=True),
    ],
    "flatten": [
        lambda m, x: torch.flatten(x, 1),
        lambda m, x: torch.flatten(x, start_dim=1),
        lambda m, x: torch.flatten(input=x, start_dim=1),
    ],
    "flatten method": [lambda m, x: x.flatten(1), lambda m, x: x.flatten(start_dim=1)],
    "mean": [
        lambda m, x: x.mean((2, 3), True),
        lambda m, x: x.mean((2, 3), keepdim=True),
        lambda m, x: x.mean(keepdim=True, dim=(2, 3)),
    ],
    "mean function": [
        lambda m, x: torch.mean(x, (2, 3)),
        lambda m, x: torch.mean(input=x, dim=(2, 3)),
    ],
    "max pool": [
        lambda m, x: F.max_pool2d(x, 2),
        lambda m, x: F.max_pool2d(input=x, kernel_size=2),
    ],
    "average pool": [
        lambda m, x: F.avg_pool2d(x, 3, 1, 1),
        lambda m, x: F.avg_pool2d(x, kernel_size=3, padding=1, stride=1),
        lambda m, x: F.avg_pool2d(input=x, kernel_size=3, stride=1, padding=1),
    ],
    "global pool": [
        lambda m, x: F.adaptive_avg_pool2d(x, 1),
        lambda m, x: F.adaptive_avg_pool2d(input=x, output_size=1),
    ],
    "padding": [
        lambda m, x: F.pad(x, (1, 1, 1, 1)),
        lambda m, x: F.pad(input=x, pad=(1, 1, 1, 1)),
    ],
    "chunk": [
        lambda m, x: x.chunk(2, 1)[0],
        lambda m, x: x.chunk(2, dim=1)[0],
        lambda m, x: x.chunk(chunks=2, dim=1)[0],
    ],
    "split": [
        lambda m, x: torch.split(x, 2, 1)[0],
        lambda m, x: torch.split(x, dim=1, split_size_or_sections=2)[0],
        lambda m, x: torch.split(tensor=x, split_size_or_sections=2, dim=1)[0],
    ],
    "permutation": [
        lambda m, x: x.permute((0, 2, 3, 1)),
        lambda m, x: x.permute(dims=(0, 2, 3, 1)),
    ],
    "transposition": [lambda m, x: x.transpose(1, 2), lambda m, x: x.transpose(dim1=2, dim0=1)],
    "dropout": [
        lambda m, x: F.dropout(x, 0.5, False, inplace=False),
        lambda m, x: F.dropout(input=x, training=False),
    ],
    "interpolation": [
        lambda m, x: F.interpolate(x, None, 2.0),
        lambda m, x: F.interpolate(input=x, scale_factor=2.0),
    ],
}
CASES = [
    pytest.param(usual, other, id=f"{name} {index}")
    for name, (usual, *others) in SPELLINGS.items()
    for index, other in enumerate(others)
]


@pytest.mark.parametrize(("usual", "other"), CASES)
def test_spellings_give_one_graph(usual, other):
    net = Net(usual).eval()
    other_net = copy.deepcopy(net)
    other_net.function = other
    graphs = [repq_fx.trace(each, IMAGE).graph for each in (net, other_net)]
    assert graphs[0].python_code("self").src == graphs[1].python_code("self").src


@pytest.mark.parametrize("name", ["relu in place", "hardtanh"])
def test_an_operation_in_place_is_known_by_its_keyword(name):
    for function in SPELLINGS[name]:
        graph_module = repq_fx.trace(Net(function).eval(), IMAGE)
        assert any(mutated_operand(graph_module, node) for node in graph_module.graph.nodes)


def test_what_cannot_be_bound_stays():
    def function(m, x):
        out = torch.zeros_like(x)
        y = torch.add(x, x, out=out)
        return torch.clamp(y, max=1.0).mul(2.0) + torch.add(x, x, alpha=2)

    graph_module = symbolic_trace(Net(function))
    before = graph_module.code
    canonicalize_calls(graph_module)
    assert graph_module.code == before


class Chain(nn.Module):
    """A small classifier with a choice of spelling for each call."""

    def __init__(self, spelled):
        super().__init__()
        self.spelled = spelled
        self.a, self.b, self.c = (nn.Conv2d(4, 4, k, padding=k // 2) for k in (3, 1, 3))
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        k = iter(self.spelled)
        y = self.norm(input=self.a(input=x)) if next(k) else self.norm(self.a(x))
        z = self.b(input=x) if next(k) else self.b(x)
        y = torch.add(input=y, other=z) if next(k) else torch.add(y, z)
        y = F.relu(input=y) if next(k) else F.relu(y)
        z = self.c(input=y) if next(k) else self.c(y)
        z = torch.cat(tensors=[z, y], dim=1) if next(k) else torch.cat([z, y], 1)
        z = F.max_pool2d(input=z, kernel_size=2) if next(k) else F.max_pool2d(z, 2)
        z = (
            F.adaptive_avg_pool2d(input=z, output_size=1)
            if next(k)
            else F.adaptive_avg_pool2d(z, 1)
        )
        z = torch.flatten(input=z, start_dim=1) if next(k) else torch.flatten(z, 1)
        return self.fc(input=z) if next(k) else self.fc(z)


@settings(max_examples=5)
@given(st.lists(st.booleans(), min_size=10, max_size=10))
def test_every_spelling_is_merged_and_lowered_alike(spelled):
    torch.manual_seed(0)
    usual = Chain([False] * 10).eval()
    other = copy.deepcopy(usual)
    other.spelled = spelled
    regions = [repq_fx.find_regions(net, IMAGE) for net in (usual, other)]
    assert regions[0] == regions[1]
    lowered = [repq_fx.quantize(net, IMAGE, scheme=QUICK, progress=False) for net in (usual, other)]
    assert lowered[0].code == lowered[1].code
    assert "program(" in lowered[0].code
    assert torch.equal(lowered[0](IMAGE), lowered[1](IMAGE))


def test_a_reference_graph_from_elsewhere_is_lowered_alike():
    model = Chain([False] * 10).eval()
    usual = repq_fx.quantize(model, IMAGE, scheme=QUICK, backend="reference", progress=False)
    other = copy.deepcopy(usual)
    (pool,) = (node for node in other.graph.nodes if node.target is F.max_pool2d)
    pool.args, pool.kwargs = (), {"kernel_size": 2, "input": pool.args[0]}
    other.recompile()
    assert lower_to_int8(usual).code == lower_to_int8(other).code
