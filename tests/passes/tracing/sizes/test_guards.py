"""Graphs at other sizes than that of their example: right, or a sentence; never another number."""

import math
import re
from math import ceil, trunc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import repq_fx
from repq_fx.errors import SizeError
from repq_fx.models import fashion_repvgg
from repq_fx.passes import reparameterize, trace
from repq_fx.passes.tracing.sizes.guards import is_size_guard
from tests.zoo.mobile import RepMixer, TextRepMixer

REQUIRE = torch.ops.repq_fx.require_size.default


class Net(nn.Module):
    """A branch to merge between functions of images."""

    def __init__(self, *functions):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.functions = functions

    def forward(self, x):
        for function in self.functions:
            x = F.relu(self.norm(self.conv(x)) + x)
            x = function(x)
        return x


def mean_by_count(x):
    count = int(x.shape[2]) * int(x.shape[3])
    return x + x.sum((2, 3), keepdim=True) / count


def pad_to_even(x):
    return F.pad(x, (0, x.shape[3] % 2, 0, 0)) if x.shape[3] % 2 else x


def tall_or_wide(x):
    return x * 2 if x.shape[2] > x.shape[3] else x


def by_rows(x):
    return torch.stack([x[:, :, i] * i for i in range(x.shape[2])], 2)


def by_parts(x):
    return torch.cat([part * i for i, part in enumerate(x.split(3, dim=3))], 3)


def by_unbound(x):
    return sum(row for row in x.unbind(2)).unsqueeze(2) + x


def by_chunks(x):
    return torch.cat([part * i for i, part in enumerate(x.chunk(5, 2))], 2)


def scaled_by_float(x):
    return x * (float(x.size(2)) / 7)


def by_table(x):
    return x * {8: 1.5}.get(x.shape[2], 0.5)


def times_parts(x):
    return x * len(x.split(3, 2))


def symbolic(x):
    b, c, h, w = x.shape
    return x.reshape(b, c, h * w).softmax(2).reshape(b, c, h, w) * 2


def cropped_to_multiples(x):
    return x[:, :, : math.floor(x.shape[2] / 3) * 3, : 2 * trunc(x.shape[3] / 2)]


def resized_to_multiples(x):
    size = (ceil(x.shape[2] / 3) * 3, x.shape[3] + 2)
    return F.interpolate(x, size, mode="bilinear")


def rolled_by_remainder(x):
    return x.roll(divmod(x.shape[2], 3), (2, 3))


def rounded(x):
    return x[..., : round(x.shape[3] * 0.7)]


def halved(x):
    return x[:, :, : max(x.shape[2] // 2, 2)]


SYMBOLIC = [cropped_to_multiples, resized_to_multiples, rolled_by_remainder]
SNIPPETS = [
    mean_by_count, pad_to_even, tall_or_wide, by_rows, by_parts, by_unbound, by_chunks,
    scaled_by_float, by_table, times_parts, symbolic, halved,
    rounded, *SYMBOLIC,
]  # fmt: skip
NAMES = [snippet.__name__ for snippet in SNIPPETS]


def require_right_or_refused(graph, model, x):
    with torch.no_grad():
        try:
            found = graph(x)
        except SizeError as error:
            assert f"of {list(x.shape)}" in str(error)  # noqa: PT017
            return
        torch.testing.assert_close(found, model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", [trace, reparameterize], ids=["trace", "merge"])
@pytest.mark.parametrize("snippet", SNIPPETS, ids=NAMES)
def test_is_right_or_refuses_at_other_sizes(snippet, build):
    model = Net(snippet).eval()
    graph = build(model, torch.randn(2, 4, 8, 8))
    for shape in [(1, 4, 8, 8), (3, 4, 9, 9), (2, 4, 10, 6), (2, 4, 5, 12), (1, 4, 16, 16)]:
        require_right_or_refused(graph, model, torch.randn(shape))
    graph(torch.randn(5, 4, 8, 8))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(SNIPPETS), min_size=1, max_size=3),
    st.tuples(st.integers(6, 10), st.integers(6, 10)),
    st.lists(st.tuples(st.integers(5, 13), st.integers(5, 13)), min_size=1, max_size=3),
)
def test_any_mixture_is_right_or_refuses(snippets, size, others):
    model = Net(*snippets).eval()
    graph = reparameterize(model, torch.randn(2, 4, *size))
    for other in others:
        require_right_or_refused(graph, model, torch.randn(3, 4, *other))


def test_only_the_truth_of_a_question_is_fixed():
    model = Net(pad_to_even, tall_or_wide).eval()
    graph = reparameterize(model, torch.randn(1, 4, 8, 8))
    other = torch.randn(2, 4, 6, 12)
    torch.testing.assert_close(graph(other), model(other), rtol=1e-4, atol=1e-4)
    with pytest.raises(SizeError, match=r"% 2\) is False; .* 6, 9\] makes it True"):
        graph(torch.randn(1, 4, 6, 9))


@pytest.mark.parametrize("snippet", SYMBOLIC, ids=[snippet.__name__ for snippet in SYMBOLIC])
def test_rounded_sizes_stay_in_the_graph(snippet, tmp_path):
    model = Net(snippet).eval()
    graph = repq_fx.reparameterize(model, torch.randn(1, 4, 8, 8))
    for size in [(9, 11), (7, 6), (20, 13)]:
        x = torch.randn(2, 4, *size)
        torch.testing.assert_close(graph(x), model(x), rtol=1e-4, atol=1e-4)
    quantized = repq_fx.quantize(model, [torch.randn(1, 4, 8, 8)], progress=False)
    repq_fx.save(quantized, tmp_path / "net.repq")
    loaded = repq_fx.load(tmp_path / "net.repq")
    torch.testing.assert_close(loaded(x), quantized(x), rtol=0, atol=0)


def test_a_message_writes_rounding_as_a_person_would():
    model = Net(lambda x: x if ceil(x.shape[2] / 4) * 4 == x.shape[2] else x * 2).eval()
    graph = trace(model, torch.randn(1, 4, 8, 8))
    with pytest.raises(SizeError, match=re.escape("(ceil((relu.shape[2] / 4)) * 4) == relu")):
        graph(torch.randn(1, 4, 10, 8))


def test_a_question_asked_twice_is_checked_once():
    model = Net(lambda x: x * int(x.shape[2]) + int(x.shape[2])).eval()
    graph = trace(model, torch.randn(1, 4, 8, 8))
    assert sum(node.target == REQUIRE for node in graph.graph.nodes) == 1


@pytest.mark.parametrize("backend", ["int8", "reference"])
def test_a_quantized_model_keeps_the_check_in_its_file(backend, tmp_path):
    x = torch.randn(2, 4, 8, 8)
    quantized = repq_fx.quantize(Net(mean_by_count).eval(), [x], backend=backend, progress=False)
    repq_fx.save(quantized, tmp_path / "net.repq")
    loaded = repq_fx.load(tmp_path / "net.repq")
    torch.testing.assert_close(loaded(x), quantized(x), rtol=0, atol=0)
    for graph in (quantized, loaded):
        with pytest.raises(SizeError, match=r"\.shape\[2\] is 8"):
            graph(torch.randn(2, 4, 10, 8))


class Unguarded(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        first, second = self.conv(x).split(2, 1)  # Python insists on the number of parts.
        parts = list(x.chunk(2, 1))
        assert x.dim() == 4
        scale = {2: 3.0}[x.dim() - 2] * len(x.shape)
        return torch.cat([first, second, *parts], 1) * scale * self.conv.weight.shape[0]


@pytest.mark.parametrize(
    ("model", "shape"), [(Unguarded(), (1, 4, 8, 8)), (fashion_repvgg(), (1, 1, 28, 28))]
)
def test_facts_of_the_program_are_not_checked(model, shape):
    graph = trace(model.eval(), torch.randn(shape))
    assert all(node.target != REQUIRE for node in graph.graph.nodes)


def test_inputs_in_a_list_are_checked_too():
    class Pyramid(nn.Module):
        def forward(self, maps):
            return maps[0] * int(maps[1].shape[2])

    model = Pyramid().eval()
    graph = trace(model, ([torch.randn(1, 2, 8, 8), torch.randn(1, 2, 4, 4)],))
    with pytest.raises(SizeError, match=r"of \[1, 2, 6, 6\] makes it 6"):
        graph([torch.randn(1, 2, 8, 8), torch.randn(1, 2, 6, 6)])


class OwnForward(nn.Conv2d):
    """Takes any number of channels."""

    def forward(self, input):
        return super().forward(input[:, :4])


class Layers(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 1)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.SiLU()
        self.linear = nn.Linear(5, 3)
        self.layer_norm = nn.LayerNorm([6, 5])
        self.plain_norm = nn.InstanceNorm2d(4)
        self.leaf = OwnForward(4, 6, 1)
        self.other_leaf = OwnOnly(4, 6, 1)
        self.glu = nn.GLU(1)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


class OwnOnly(nn.Conv2d):
    """Brings a forward for one instance."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.forward = lambda x: super(OwnOnly, self).forward(x[:, :4])


def require(value, size):
    if size[0] != size[1]:
        raise ValueError("Another size.")
    return value


def unread(net, x):
    net.conv(x)
    return require(x, (x.shape[1], 4))


CERTAIN = {
    "of_an_input": lambda net, x: net.conv(require(x, (x.shape[1], 4))),
    "method": lambda net, x: net.conv(require(x, (x.size(1), 4))),
    "all_sizes": lambda net, x: net.conv(require(x, (x.size()[-3], 4))),
    "computed": lambda net, x: net.conv(require(x, (x.size(1) // 2 + 1, 3))),
    "of_a_layer": lambda net, x: require(y := net.conv(x), (y.shape[1], 6)),
    "of_a_block": lambda net, x: require(y := net.act(net.norm(net.conv(x))), (y.shape[1], 6)),
    "of_a_function": lambda net, x: require(y := F.relu(net.conv(x)).sigmoid(), (y.shape[1], 6)),
    "linear": lambda net, x: net.linear(require(x, (x.shape[-1], 5))),
    "layer_norm": lambda net, x: net.layer_norm(require(y := x.mean(1), (y.shape[-2], 6))),
    "two_layers": lambda net, x: require(y := net.conv(x), (y.shape[1], x.shape[1] + 2)),
    "halves": lambda net, x: torch.cat([p * 2 for p in net.act(net.conv(x)).chunk(2, 1)], 1),
    "parts": lambda net, x: torch.cat([part * 2 for part in net.conv(x).split(4, dim=1)], 1),
}
DOUBTFUL = {
    "height": lambda net, x: net.conv(require(x, (x.shape[2], 6))),
    "height_of_a_layer": lambda net, x: require(y := net.conv(x), (y.shape[2], 6)),
    "unread": unread,
    "no_weights": lambda net, x: net.plain_norm(require(x, (x.shape[1], 4))),
    "own_forward": lambda net, x: net.leaf(require(x, (x.shape[1], 4))),
    "forward_of_one": lambda net, x: net.other_leaf(require(x, (x.shape[1], 4))),
    "not_entrywise": lambda net, x: require(y := net.glu(x), (y.shape[1], 2)),
    "with_height": lambda net, x: net.conv(require(x, (x.shape[1] * x.shape[2], 24))),
}
DOUBTFUL_HALVES = {
    "of_an_input": lambda x: x.chunk(2, 1),
    "of_rows": lambda x: x.chunk(2, dim=2),
    "of_function": lambda x: torch.chunk(x, chunks=2, dim=2),
}


def guards(graph):
    return [node for node in graph.graph.nodes if is_size_guard(node)]


@pytest.mark.parametrize("function", CERTAIN.values(), ids=CERTAIN.keys())
def test_sizes_that_weights_fix_are_not_checked(function):
    model = Layers(function).eval()
    graph = trace(model, torch.randn(2, 4, 6, 5))
    assert not guards(graph)
    assert not {"size", getattr} & {node.target for node in graph.graph.nodes}
    x = torch.randn(3, 4, 6, 5)
    torch.testing.assert_close(graph(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("function", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_other_sizes_are(function):
    graph = trace(Layers(function).eval(), torch.randn(2, 4, 6, 5), leaves=[OwnForward, OwnOnly])
    assert len(guards(graph)) == 1


@pytest.mark.parametrize("cut", DOUBTFUL_HALVES.values(), ids=DOUBTFUL_HALVES.keys())
def test_halves_of_a_size_of_one_are_refused(cut):
    model = Layers(lambda _, x: torch.cat([part * 2 for part in cut(x)], 1)).eval()
    graph = trace(model, torch.randn(2, 4, 6, 5))
    x = torch.randn(1, 2, 2, 4)
    torch.testing.assert_close(graph(x), model(x), rtol=0, atol=0)
    with pytest.raises(repq_fx.errors.SizeError, match=r"> 1\) is True"):
        graph(torch.randn(2, 1, 1, 5))


def test_a_comparison_of_channels_adds_no_node_to_a_block():
    x = torch.randn(2, 4, 8, 8)
    plain, asking = (
        trace(nn.Sequential(*(kind(4, 3) for _ in range(3))).eval(), x)
        for kind in (RepMixer, TextRepMixer)
    )
    assert len(plain.graph.nodes) == len(asking.graph.nodes)


def test_a_quantized_model_still_refuses_other_channels():
    model = Layers(CERTAIN["of_an_input"]).eval()
    quantized = repq_fx.quantize(model, [torch.randn(2, 4, 6, 5)], progress=False)
    with pytest.raises((ValueError, RuntimeError), match="channels"):
        quantized(torch.randn(2, 3, 6, 5))
