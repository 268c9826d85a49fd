"""Functions of each element that a model writes as several steps, as instructions."""

import logging

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import repq_fx
from repq_fx.lowering.int8.instructions import ChannelLookup, Int8Program, Lookup


class Net(nn.Module):
    """A function behind a dense convolution, a depthwise one, and a sum."""

    def __init__(self, function):
        super().__init__()
        self.dense = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 8, 1)
        self.number, self.one = nn.Parameter(torch.tensor(-0.3)), nn.Parameter(torch.tensor([1.7]))
        self.channels = nn.Parameter(torch.rand(8, 1, 1) + 0.5)
        self.register_buffer("three", torch.tensor([3.0]))
        self.function = function

    def forward(self, x):
        x = self.function(self, self.dense(x))
        x = self.function(self, self.depthwise(x))
        return self.pointwise(self.function(self, self.pointwise(x) + x))


IMAGES = torch.randn(8, 3, 12, 12)
FUSED = {
    "hard_swish": lambda net, x: x * F.relu6(x + net.three) / 6,
    "learned_affine_block": lambda net, x: net.one * (x * F.relu6(x + 3) / 6) + net.number,
    "scaled_relu": lambda net, x: net.one * F.relu(x) + net.number,
    "negative_relu6": lambda net, x: -net.one * F.relu6(x) + net.number,
    "silu": lambda _, x: x * x.sigmoid(),
    "clip": lambda _, x: torch.clip(x, -0.5, 1),
    "leaky": lambda _, x: torch.maximum(x * 0.1, x),
    "decision": lambda _, x: torch.where(x > 0, x, 0.2 * x),
    "gelu": lambda _, x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
}
TABLES = {
    "mish": (lambda _, x: x * torch.tanh(F.softplus(x)), Lookup),
    "steep_hard_swish": (lambda _, x: x * (0.2 * x + 0.5).clamp(0, 1), Lookup),
    "softsign": (lambda net, x: F.softsign(x) * net.one, Lookup),
    "prelu": (lambda net, x: F.prelu(x, net.channels.flatten()), ChannelLookup),
}


def sqnr(known, found):
    return 10 * torch.log10(known.square().sum() / (known - found).square().sum())


def quantized(model, caplog, images=IMAGES):
    with caplog.at_level(logging.WARNING), torch.no_grad():
        lowered = repq_fx.quantize(model, images, progress=False)
        reference = repq_fx.quantize(model, images, progress=False, backend="reference")
        assert [type(m) for m in lowered.modules()].count(Int8Program) == 1
        assert all(node.op != "call_function" for node in lowered.graph.nodes)
        for batch in (images, images[:1], torch.cat([images, images], 3)):
            known = model(batch)
            assert sqnr(known, reference(batch)) > 28
            assert sqnr(known, lowered(batch)) > sqnr(known, reference(batch)) - 0.5
    assert not caplog.records
    return lowered


@pytest.mark.parametrize("function", FUSED.values(), ids=FUSED)
def test_a_known_function_is_part_of_the_layer(function, caplog):
    lowered = quantized(Net(function).eval(), caplog)
    assert not any(isinstance(m, Lookup | ChannelLookup) for m in lowered.modules())


@pytest.mark.parametrize(("function", "table"), TABLES.values(), ids=TABLES)
def test_any_other_is_one_table(function, table, caplog, tmp_path):
    lowered = quantized(Net(function).eval(), caplog)
    tables = [type(m) for m in lowered.modules() if isinstance(m, Lookup | ChannelLookup)]
    assert tables == [table] * 3
    repq_fx.save(lowered, tmp_path / "model.repq")
    assert torch.equal(repq_fx.load(tmp_path / "model.repq")(IMAGES), lowered(IMAGES))


@pytest.mark.parametrize("function", [FUSED["learned_affine_block"], TABLES["mish"][0]])
def test_functions_of_a_reference_model_are_saved(function, tmp_path):
    reference = repq_fx.quantize(Net(function).eval(), IMAGES, progress=False, backend="reference")
    repq_fx.save(reference, tmp_path / "model.repq")
    assert torch.equal(repq_fx.load(tmp_path / "model.repq")(IMAGES), reference(IMAGES))


def test_normalization_inside_the_model_is_a_table(caplog):
    class Normalized(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor([0.2, 0.3, 0.25]).view(1, 3, 1, 1))
            self.layers = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)
            )

        def forward(self, x):
            return self.layers((x - self.mean) / self.std)

    quantized(Normalized().eval(), caplog, torch.rand(8, 3, 12, 12))


def test_a_module_that_an_override_names_stays_as_it_is():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.act, self.last = nn.Conv2d(3, 8, 1), nn.SiLU(), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            return self.last(self.act(self.first(x)) * 2 + 1)

    scheme = repq_fx.Scheme().with_overrides(repq_fx.Override("act", None))
    reference = repq_fx.quantize(
        Own().eval(), IMAGES, scheme=scheme, progress=False, backend="reference"
    )
    assert type(reference.get_submodule("act")) is nn.SiLU


GATES = {
    "operator": lambda x, gate: x * gate,
    "function": torch.multiply,
    "method": lambda x, gate: x.multiply(gate),
    "in_place": lambda x, gate: x.mul_(gate),
    "other_side": lambda x, gate: gate * x,
    "difference": torch.subtract,
    "difference_in_place": lambda x, gate: x.sub_(gate),
}


@pytest.mark.parametrize("combine", GATES.values(), ids=GATES)
def test_a_gate_in_any_spelling_is_one_integer_step(combine, caplog):
    def function(_, x):
        x = F.silu(x)
        return combine(x, torch.sigmoid(x.mean((2, 3), keepdim=True)))

    quantized(Net(function).eval(), caplog)
