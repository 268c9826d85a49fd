"""A value that is overwritten through another that shares its memory is found, and no other."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import repq_fx
from repq_fx.passes.graph.mutation import overwritten_alias, read_results_of_mutations
from repq_fx.passes.tracing.symbolic import symbolic_trace

IMAGE = torch.randn(4, 8, 7, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A convolution, what `function` makes of it, and two layers that may read parts."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.head, self.part = (nn.Conv2d(c, c, 3, padding=1) for c in (8, 8, 4))
        self.identity = nn.Identity()
        self.function = function

    def forward(self, image):
        return self.function(self, self.conv(image))


def mul_of_chunk(net, y):
    a, b = y.chunk(2, 1)
    a.mul_(0.5)
    return net.head(y) + torch.cat([a, b], 1)


def relu_of_view(net, y):
    view = y.flatten(2).relu_()
    return net.head(y), view


def dead_relu_of_view(net, y):
    y[:, :4].relu_()
    return net.head(y)


def view_of_relu(net, y):
    view = y.permute(0, 2, 3, 1)
    y.relu_()
    return net.head(y), view * 2


def sum_of_identity(net, y):
    view = net.identity(F.dropout(y, training=False))
    return view.add_(1) + net.head(y)


def overlapping_slices(net, y):
    first, second = y[:, :4], y[:, 2:6]
    return net.part(F.relu(first, inplace=True)) + net.part(second)


def twice(net, y):
    view = y.detach()
    view.mul_(2).add_(1)
    return net.head(y)


ALIASED = [
    mul_of_chunk, relu_of_view, dead_relu_of_view, view_of_relu, sum_of_identity,
    overlapping_slices, twice,
]  # fmt: skip


def other_chunk(net, y):
    a, b = y.chunk(2, 1)
    return net.part(a.relu_()) + net.part(b)


def other_slice(net, y):
    a, b = y[:, :4], y[:, 4:]
    return net.part(F.relu(a, inplace=True)) + net.part(b)


def other_slice_by_size(net, y):
    count = y.shape[1] // 2
    a, b = y[:, :count], y[:, count:]
    return a.relu_() + b


def own_result(net, y):
    z = F.relu(y, inplace=True)
    return net.head(z) + y


def chain(net, y):
    y += 1
    y.relu_()
    return net.head(y) * y.mul_(2)


def size_of_base(net, y):
    view = y.flatten(2).relu_()
    return view.reshape(y.size(0), 8, y.shape[2], -1)


def copy(net, y):
    return (y * 1).flatten(2).relu_(), net.head(y)


SEPARATE = [other_chunk, other_slice, other_slice_by_size, own_result, chain, size_of_base, copy]


def found_in(function):
    graph = symbolic_trace(Net(function).eval(), (IMAGE,))
    read_results_of_mutations(graph)
    return overwritten_alias(graph)


@pytest.mark.parametrize("function", ALIASED, ids=lambda each: each.__name__)
def test_what_is_overwritten_and_read_elsewhere_is_found(function):
    assert found_in(function) is not None


@pytest.mark.parametrize("function", SEPARATE, ids=lambda each: each.__name__)
def test_what_nobody_else_reads_is_not(function):
    assert found_in(function) is None


@pytest.mark.parametrize("backend", ["reference", "int8"])
@pytest.mark.parametrize("function", ALIASED + SEPARATE, ids=lambda each: each.__name__)
def test_every_reader_sees_what_was_written(function, backend):
    model = Net(function).eval()
    quantized = repq_fx.quantize(model, IMAGE, backend=backend, progress=False)
    with torch.no_grad():
        known, found = model(IMAGE), quantized(IMAGE)
    known, found = (each if isinstance(each, tuple) else (each,) for each in (known, found))
    for expected, actual in zip(known, found, strict=True):
        assert repq_fx.analysis.sqnr_db(expected, actual) > 30


slices = st.tuples(st.integers(-4, 4) | st.none(), st.integers(-4, 4) | st.none())


@given(slices, slices)
def test_parts_that_share_an_element_are_never_taken_for_separate(first, second):
    def function(_, y):
        one, other = y[:, slice(*first)], y[:, slice(*second)]
        return one.relu_(), other + 1

    indices = torch.arange(4)
    shared = set(indices[slice(*first)].tolist()) & set(indices[slice(*second)].tolist())
    if shared and first != second:
        assert found_in(function) is not None
