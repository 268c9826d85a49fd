"""Exported graphs at other sizes than that of their example: right, or a sentence."""

import math

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils._sympy.functions import Mod

import repq_fx
from repq_fx.errors import SizeError
from repq_fx.passes.tracing.exported import export_trace
from repq_fx.passes.tracing.sizes.conditions import answer

REQUIRE = torch.ops.repq_fx.require_size.default


class Net(nn.Module):
    def __init__(self, *functions):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.functions = functions

    def forward(self, x):
        for function in self.functions:
            x = function(F.relu(self.conv(x)) + x)
        return x


def overwritten_border(x):
    y = F.pad(x, [1, 1, 1, 1])
    y[:, :, 0:1] = 1.0
    y[:, :, :, -1:] = 2.0
    return y


def weighted_rows(x):
    return torch.cat([x[:, :, i : i + 1] * i for i in range(x.shape[2])], 2)


def size_as_number(x):
    return x * int(x.shape[2]) + float(x.shape[3])


def padded_if_odd(x):
    return F.pad(x, (0, 1)) if x.shape[3] % 2 else x


def doubled_if_tall(x):
    return x * 2 if x.shape[2] > x.shape[3] else x


def first_rows(x):
    return x[:, :, :5] * 3


def halves(x):
    left, right = x.chunk(2, 3)
    return torch.cat([left * 2, right], 3)


def parts(x):
    return torch.cat([part * i for i, part in enumerate(x.split(3, 2))], 2)


def resized(x):
    return F.interpolate(F.avg_pool2d(x, 2), size=x.shape[2:], mode="bilinear") + x


def attended(x):
    tokens = x.flatten(2).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(tokens, tokens, tokens)
    return mixed.transpose(1, 2).reshape(x.shape)


def squeezed(x):
    pooled = F.avg_pool2d(x, 2).squeeze(2)
    return x * (3 if pooled.dim() == 4 else 2)


def positions(x):
    rows, columns = torch.arange(x.shape[2]), torch.arange(x.shape[3])
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).to(x)
    return x + grid.sum(0)


def large_square(x):
    return x * 2 if x.shape[2] == x.shape[3] and x.shape[2] * x.shape[3] > 40 else x


def scaled(x):
    return F.interpolate(x, scale_factor=0.7, mode="bilinear")


def multiple_of_patch(x):
    return x if math.ceil(x.shape[2] / 4) * 4 == x.shape[2] else x * 2


def rounded_down(x):
    return x * 2 if math.floor(x.shape[2] / 3) > 1 and int(x.shape[3] * 0.5) > x.shape[2] / 9 else x


def alone_in_batch(x):
    return x * 5 if x.shape[0] == 1 else x


def single_pooled_row(x):
    return x * 5 if F.avg_pool2d(x, 2).shape[2] == 1 else x


def single_row(x):
    return x * 5 if x.shape[2] == 1 else x


SNIPPETS = [
    overwritten_border, weighted_rows, size_as_number, padded_if_odd, doubled_if_tall, first_rows,
    halves, parts, resized, attended, squeezed, positions, alone_in_batch, single_row,
    single_pooled_row, large_square, scaled, multiple_of_patch, rounded_down,
]  # fmt: skip
NAMES = [snippet.__name__ for snippet in SNIPPETS]


def checks(graph_module):
    return [node.args[3] for node in graph_module.graph.nodes if node.target == REQUIRE]


def require_right_or_refused(graph, model, x):
    with torch.no_grad():
        try:
            expected = model(x)
        except (RuntimeError, ValueError):
            return  # The model itself takes no such size.
        try:
            found = graph(x)
        except SizeError as error:
            assert f"of {list(x.shape)}" in str(error)  # noqa: PT017
            return
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=NAMES)
def test_is_right_or_refuses_at_other_sizes(snippet):
    model, example = Net(snippet).eval(), torch.randn(1, 4, 8, 8)
    graph = export_trace(model, (example,))
    torch.testing.assert_close(graph(example), model(example), rtol=1e-4, atol=1e-4)
    for height, width in [(8, 8), (9, 9), (10, 6), (5, 12), (16, 16), (2, 2), (3, 8), (1, 8)]:
        for images in (1, 3):
            require_right_or_refused(graph, model, torch.randn(images, 4, height, width))


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.sampled_from(SNIPPETS), min_size=1, max_size=2),
    st.tuples(st.integers(1, 3), st.integers(6, 9), st.integers(6, 9)),
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 13)), min_size=3, max_size=6
    ),
)
def test_any_mixture_is_right_or_refuses(snippets, size, others):
    model = Net(*snippets).eval()
    batch, *sides = size
    graph = export_trace(model, (torch.randn(batch, 4, *sides),))
    for images, *other in others:
        require_right_or_refused(graph, model, torch.randn(images, 4, *other))


def test_squares_of_a_size_are_checked():
    model = Net(large_square).eval()
    graph, x = export_trace(model, (torch.randn(1, 4, 8, 8),)), torch.randn(3, 4, 11, 11)
    torch.testing.assert_close(graph(x), model(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(SizeError, match=r"\*\* 2\) > 40\) is True; .* it False"):
        graph(torch.randn(1, 4, 6, 6))


def test_the_batch_stays_free_where_a_question_about_an_image_cannot_be_checked():
    model = Net(lambda x: x * 2 if x.shape[2] ** 0.5 > 2 else x).eval()
    graph, x = export_trace(model, (torch.randn(1, 4, 8, 8),)), torch.randn(3, 4, 8, 8)
    torch.testing.assert_close(graph(x), model(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(SizeError, match=r"size\(2\) is 8; .* makes it 2"):
        graph(torch.randn(1, 4, 2, 8))


@pytest.mark.parametrize("snippet", [overwritten_border, resized, positions, attended, scaled])
def test_sizes_that_decide_nothing_stay_free(snippet):
    model = Net(snippet).eval()
    graph, x = export_trace(model, (torch.randn(1, 4, 8, 8),)), torch.randn(3, 4, 11, 14)
    torch.testing.assert_close(graph(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("snippet", "shape", "message"),
    [
        (size_as_number, (1, 4, 9, 8), r"\[1, 4, 8, 8\], on which x.size\(2\) is 8; .* makes it 9"),
        (padded_if_odd, (1, 4, 8, 9), r"\(\(x.size\(3\) % 2\) == 0\) is True; .* it False"),
        (multiple_of_patch, (3, 4, 9, 12), r"\(\(ceil\(\(x.size\(2\) / 4\)\) \* 4\) == x.size"),
        (doubled_if_tall, (1, 4, 9, 8), r"<= .* is True; .*\[1, 4, 9, 8\] makes it False"),
    ],
)
def test_sentences_name_the_question(snippet, shape, message):
    graph = export_trace(Net(snippet).eval(), (torch.randn(1, 4, 8, 8),))
    with pytest.raises(SizeError, match=message):
        graph(torch.randn(shape))


def test_inputs_of_related_sizes():
    class Fused(nn.Module):
        def forward(self, x, y):
            return x + F.avg_pool2d(y, 2), y.shape[2]

    model = Fused().eval()
    graph = export_trace(model, (torch.randn(1, 4, 4, 4), torch.randn(1, 4, 8, 8)))
    inputs = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 10, 12)
    torch.testing.assert_close(graph(*inputs), model(*inputs))
    with pytest.raises(SizeError):
        graph(torch.randn(2, 4, 5, 6), torch.randn(2, 4, 8, 8))


def test_channels_that_a_layer_asks_for_are_not_checked_twice():
    graph = export_trace(nn.Sequential(nn.Conv2d(4, 4, 1)).eval(), (torch.randn(1, 4, 8, 8),))
    assert checks(graph) == []


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_quantized_model_keeps_the_check_in_its_file(tmp_path):
    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            y = torch.zeros_like(x)
            y.copy_(x)
            if x.sum().isnan().new_zeros(()).shape == () and x.shape[3] % 2 == 0:
                y = self.conv(y)
            return F.relu(y)

    model, x = Written().eval(), torch.randn(2, 4, 8, 8)
    quantized = repq_fx.quantize(model, [x], progress=False)
    repq_fx.save(quantized, tmp_path / "net.repq")
    loaded = repq_fx.load(tmp_path / "net.repq")
    for graph in (quantized, loaded):
        graph(torch.randn(3, 4, 6, 10))
        with pytest.raises(SizeError):
            graph(torch.randn(2, 4, 8, 9))


def test_a_condition_that_divides_by_zero_has_no_answer():
    first, second = sympy.symbols("first second", integer=True)
    condition = sympy.Eq(Mod(first, second), 0)
    assert answer(condition, {first: 4, second: 2}) == sympy.true
    assert answer(condition, {first: 4, second: 3}) == sympy.false
    assert answer(condition, {first: 4, second: 0}) is None
