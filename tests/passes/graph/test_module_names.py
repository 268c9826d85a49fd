"""Which names a new module may take, what shared layers keep, and one activation for all blocks."""

import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.fx import symbolic_trace
from torch.nn import functional as F

import repq_fx
from repq_fx import Override, Scheme
from repq_fx.passes.graph.module_names import ReadNames, free_name, is_free

CHANNELS = 3
QUICK = Scheme(gptq=False, output_search=False, sequential_ranges=False, equalization=False)


class Twice(nn.Module):
    """One convolution, called once for itself and once with a normalization behind it."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(4, 4, 3, padding=1)
        self.b = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.b(self.c(torch.relu(self.c(x))))


class Tied(nn.Module):
    """A decoder with the transposed weight of its encoder."""

    def __init__(self):
        super().__init__()
        self.e = nn.Linear(4, 3)
        self.f = nn.Linear(4, 2)

    def forward(self, x):
        return self.f(F.linear(torch.relu(self.e(x)), self.e.weight.t()))


class Shared(nn.Module):
    """A random chain of a few layers, each of which may come back in any place."""

    def __init__(self, steps):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(2))
        self.pointwise = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.BatchNorm2d(CHANNELS))
        self.norms = nn.ModuleList(nn.BatchNorm2d(CHANNELS) for _ in range(2))
        self.act = nn.ReLU()
        self.steps = steps
        for norm in (self.pointwise[1], *self.norms):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)

    def forward(self, x):
        for kind, index in self.steps:
            x = getattr(self, f"_{kind}")(x, index)
        return x

    def _conv(self, x, index):
        return self.convs[index](x)

    def _norm(self, x, index):
        return self.norms[index](x)

    def _act(self, x, _):
        return self.act(x)

    def _tied(self, x, index):
        weight = self.convs[index].weight
        return F.conv2d(x, weight.transpose(0, 1), padding=1)

    def _same(self, x, index):
        return F.conv2d(x, self.convs[index].weight, self.convs[1 - index].bias, padding=1)

    def _branches(self, x, index):
        return self.convs[index](x) + self.pointwise(x)

    def _alone(self, x, _):
        return self.pointwise[0](x)


STEPS = [n[1:] for n in ("_conv", "_norm", "_act", "_tied", "_same", "_branches", "_alone")]


def assert_merged_alike(model, image, other):
    model = model.double().eval()
    before = copy.deepcopy(model.state_dict())
    merged = repq_fx.reparameterize(model, image.double())
    with torch.no_grad():
        for sample in (image.double(), other.double()):
            torch.testing.assert_close(merged(sample), model(sample))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    return merged


def test_a_layer_that_is_called_elsewhere_keeps_its_name():
    model = Twice()
    nn.init.normal_(model.b.running_mean)
    merged = assert_merged_alike(model, torch.randn(1, 4, 6, 6), torch.randn(3, 4, 9, 5))
    assert torch.equal(merged.c.weight, model.c.weight)
    assert {name for name, _ in merged.named_children()} == {"c", "reparam_conv"}


def test_a_layer_whose_weight_is_tied_keeps_its_name():
    model = Tied()
    merged = assert_merged_alike(model, torch.randn(1, 4), torch.randn(3, 4))
    assert torch.equal(merged.e.weight, model.e.weight)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 1)), min_size=1, max_size=7))
def test_shared_and_tied_layers_merge_to_the_same_model(steps):
    torch.manual_seed(0)
    image, other = torch.randn(1, CHANNELS, 6, 6), torch.randn(3, CHANNELS, 9, 7)
    assert_merged_alike(Shared(steps), image, other)


class Hidden(nn.Module):
    """A module that hangs in two places, of which one is called and the other's part is read."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 1, 1))
        self.second = self.first
        self.plain = nn.Linear(1, 1)

    def forward(self, x):
        return self.first[0](x) + self.plain.weight


def test_a_place_is_read_under_any_name_that_it_has():
    graph_module = symbolic_trace(Hidden())
    graph_module.second = graph_module.first
    read = ReadNames(graph_module, graph_module.graph.nodes)
    held = [
        "first",
        "first.0",
        "first.0.weight",
        "second.0",
        "second.0.new",
        "plain",
        "plain.weight",
    ]
    assert all(read.holds(name) for name in held)
    assert not any(read.holds(name) for name in ["second", "first.1", "new", "plain.bias"])


def test_a_name_is_free_where_nothing_is():
    graph_module = symbolic_trace(Hidden())
    assert not is_free(graph_module, "plain.weight")  # a tensor
    assert not is_free(graph_module, "plain.weight.new")
    assert is_free(graph_module, "plain.new")
    assert is_free(graph_module, "new.new")
    assert free_name(graph_module, "plain") == "plain_1"
    # The graph calls `first.0`, and whatever is added to a called module may run in it.
    assert free_name(graph_module, "first.0.act", "first.act") == "first.act"
    assert free_name(graph_module, "first.0.act") == "act"


class Block(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.act = act

    def forward(self, image):
        return self.act(self.conv(image))


class Net(nn.Module):
    """Three blocks and a sum that all call one SiLU."""

    def __init__(self):
        super().__init__()
        act = nn.SiLU()
        self.blocks = nn.Sequential(*(Block(act) for _ in range(3)))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, image):
        features = self.blocks(image)
        return self.head(self.blocks[0].act(features + image))


def test_each_call_has_a_name_of_its_own():
    model, image = Net().eval(), torch.randn(2, 4, 8, 8)
    merged = repq_fx.reparameterize(model, image)
    targets = [
        node.target
        for node in merged.graph.nodes
        if node.op == "call_module" and isinstance(merged.get_submodule(node.target), nn.SiLU)
    ]
    assert targets == ["blocks.0.act", "blocks.1.act", "blocks.2.act", "blocks.0.act_1"]
    with torch.no_grad():
        torch.testing.assert_close(merged(image), model(image))


def test_one_block_in_float_leaves_the_others_quantized():
    model, image = Net().eval(), torch.randn(4, 4, 8, 8)
    scheme = QUICK.with_overrides(Override("blocks.0", None))
    reference = repq_fx.quantize(model, image, scheme=scheme, backend="reference", progress=False)
    floats = [n for n, m in reference.named_modules() if isinstance(m, nn.Conv2d)]
    assert floats == ["blocks.0.conv"]


def test_an_activation_in_float_leaves_a_plain_layer(tmp_path):
    """torch quantizes no layer whose activation is left in float; nothing of ours stays on it."""
    model, image = Net().eval(), torch.randn(4, 4, 8, 8)
    scheme = QUICK.with_overrides(Override(nn.SiLU, None))
    int8 = repq_fx.quantize(model, image, scheme=scheme, progress=False)
    repq_fx.save(int8, tmp_path / "model.repq")
    assert torch.equal(repq_fx.load(tmp_path / "model.repq")(image), int8(image))


def test_layers_with_weights_stay_shared():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), conv).eval()
    merged = repq_fx.reparameterize(model, torch.randn(1, 4, 8, 8))
    assert sum(isinstance(module, nn.Conv2d) for module in merged.modules()) == 1
