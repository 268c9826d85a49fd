import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.fx import symbolic_trace

import repq_fx
from repq_fx.lowering.int8.instructions import Int8Program
from repq_fx.passes.gathering.pixel_shuffles import equivalent_convolution, shuffle_pixels


@given(
    stride=st.integers(1, 4), padding=st.tuples(*[st.integers(0, 3)] * 2),
    rest=st.tuples(*[st.integers(0, 3)] * 2), groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(), size=st.tuples(*[st.integers(1, 6)] * 2),
)  # fmt: skip
def test_shuffled_pixels_are_the_output(stride, padding, rest, groups, bias, size):
    kernel = tuple(stride + 2 * p - r for p, r in zip(padding, rest, strict=True))
    if min(kernel) < 1 or max(rest) >= stride:
        return
    layer = nn.ConvTranspose2d(
        4, 8, kernel, stride, padding, rest, groups=groups, bias=bias, dtype=torch.float64
    )
    images = torch.randn(2, 4, *size, dtype=torch.float64)
    found = F.pixel_shuffle(equivalent_convolution(layer)(images), stride)
    torch.testing.assert_close(found, layer(images))


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "stride": 2}, {"kernel_size": 2, "stride": (2, 1)},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 2, "stride": 3, "dilation": 2},
    ],
    ids=str,
)  # fmt: skip
def test_others_have_no_such_convolution(settings):
    assert equivalent_convolution(nn.ConvTranspose2d(4, 4, **settings)) is None


class Head(nn.Module):
    """As of a text detector: two transposed convolutions, one of which is called twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.act = nn.ReLU()
        self.last = nn.ConvTranspose2d(8, 1, 4, 2, 1)

    def forward(self, x):
        x = self.act(self.up(self.first(x)))
        return torch.sigmoid(self.last(F.hardswish(self.up(x))))


def test_activation_functions_come_before_the_shuffle():
    model, images = Head().eval().double(), torch.randn(2, 3, 5, 6, dtype=torch.float64)
    graph = symbolic_trace(model)
    known = graph(images)
    shuffle_pixels(graph)
    torch.testing.assert_close(graph(images), known)
    torch.testing.assert_close(graph(images[:1, :, :3]), model(images[:1, :, :3]))
    names = [node.target for node in graph.graph.nodes][1:-1]
    assert names == [
        "first", "up", "act", F.pixel_shuffle, "up", F.hardswish, F.pixel_shuffle, "last",
        torch.sigmoid, F.pixel_shuffle,
    ]  # fmt: skip
    kept = symbolic_trace(model)
    shuffle_pixels(kept, [kept.up, kept.last])
    assert type(kept.up) is type(kept.last) is nn.ConvTranspose2d


def test_transposed_convolutions_run_as_integers():
    model, images = Head().eval(), torch.randn(8, 3, 12, 12)
    names = list(model.state_dict())
    lowered = repq_fx.quantize(model, images, progress=False)
    assert list(model.state_dict()) == names
    assert [type(m) for m in lowered.modules()].count(Int8Program) == 1
    assert not any(isinstance(m, nn.ConvTranspose2d) for m in lowered.modules())
    for batch in (images, images[:1, :, :9]):
        known = model(batch)
        noise = (known - lowered(batch)).square().sum()
        assert 10 * torch.log10(known.square().sum() / noise) > 35
