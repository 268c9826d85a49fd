"""Sums that hold affine parts which are scattered, and sums of concatenations."""

import operator

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from repq_fx.passes import trace
from repq_fx.passes.affine.views import affine_values, features_of
from repq_fx.passes.merging.sums import gather_sums


class Net(nn.Module):
    """A function of an image and four conv-bn pairs."""

    def __init__(self, function):
        super().__init__()
        self.a, self.b = self._pair(3), self._pair(1)
        self.c, self.d = self._pair(1), self._pair(3)
        self.function = function

    @staticmethod
    def _pair(kernel_size):
        conv = nn.Conv2d(4, 4, kernel_size, padding=kernel_size // 2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(4))

    def forward(self, x):
        return self.function(self, x)


def two_sources(net, x):
    y = x.relu()
    return net.a(x) + net.b(y) + net.c(x)


def later_source(net, x):
    y = net.a(x).relu()
    return net.b(y) + x + net.d(y)


def same_summand_twice(net, x):
    y = net.a(x)
    return y + x.relu() + y + net.b(x)


def other_summand_twice(net, x):
    y = x.relu()
    return net.a(x) + y + net.b(x) + y


def sum_used_twice(net, x):
    y = net.a(x) + x.relu()
    return y + net.b(x) + y


def larger_of_two_parts(net, x):
    y = x.relu()
    return net.a(y) + net.b(x) + x.tanh() + net.d(x) + x


def summand_used_elsewhere(net, x):
    y = net.a(x)
    return y + x.relu() + net.b(x), y.sigmoid()


def two_sums(net, x):
    y = (net.a(x) + x.relu() + net.b(x)).sigmoid()
    return net.c(y) + y.tanh() + net.d(y)


def sum_used_elsewhere(net, x):
    y = net.a(x) + x.relu()
    return y + net.b(x), y.sigmoid()


def sum_of_itself(net, x):
    y = net.a(x) + x.relu()
    return y + y


SCATTERED = {
    "around": (lambda net, x: net.a(x) + x.relu() + net.b(x), 1),
    "nested": (lambda net, x: x.relu() + (net.a(x) + (x.tanh() + net.b(x))), 1),
    "of_sums": (lambda net, x: (net.a(x) + x.relu()) + (x.tanh() + net.b(x)), 1),
    "torch_add": (lambda net, x: torch.add(torch.add(net.a(x), x.relu()), net.b(x)), 1),
    "identity": (lambda net, x: net.a(x) + x.relu() + x, 1),
    "computed_summand": (lambda net, x: net.a(x) + x.relu() + (net.b(x) * 3 - x), 1),
    "three_of_five": (
        lambda net, x: net.a(x) + x.relu() + net.b(x) + x.tanh() + net.d(x),
        1,
    ),
    "two_sources": (two_sources, 2),
    "later_source": (later_source, 2),
    "larger_of_two_parts": (larger_of_two_parts, 2),
    "same_summand_twice": (same_summand_twice, 1),
    "other_summand_twice": (other_summand_twice, 1),
    "two_sums": (two_sums, 2),
}


KEPT = {
    "linear": lambda net, x: net.a(x) + net.b(x) + x,
    "linear_nested": lambda net, x: net.a(x) + (x + net.b(x)),
    "two_summands": lambda net, x: net.a(x) + x.relu(),
    "adjacent": lambda net, x: net.a(x) + net.b(x) + x.relu(),
    "adjacent_on_the_right": lambda net, x: x.relu() + x.tanh() + (net.a(x) + x),
    "adjacent_in_the_middle": lambda net, x: x.relu() + (net.a(x) + x) + x.tanh(),
    "one_each": lambda net, x: net.a(x.sin()) + net.b(x.cos()) + net.c(x.exp()),
    "only_the_source": lambda _, x: x + x.relu() + x,
    "nothing_linear": lambda _, x: x.relu() + x.tanh() + x.sigmoid(),
    "broadcast": lambda net, x: net.a(x) + x.mean((2, 3), keepdim=True) + net.b(x),
    "broadcast_sum": lambda net, x: (net.a(x[:1]) + x.relu()) + net.b(x[:1]),
    "scaled_sum": lambda net, x: torch.add(net.a(x), x.relu(), alpha=2) + net.b(x),
    "number": lambda net, x: net.a(x) + 1.0 + x.relu(),
    "sum_used_elsewhere": sum_used_elsewhere,
    "sum_of_itself": sum_of_itself,
    "difference": lambda net, x: net.a(x) + x.relu() - net.b(x),
    "larger_kernel": lambda net, x: F.avg_pool2d(x, 5, 1, 2) + x.relu() + net.c(x),
}
"""Sums that stay: linear as a whole or side by side, or with nothing that may be reordered."""


def features(function, image):
    model = Net(function).double().eval()
    return model, features_of(trace(model, image), (image,))


@pytest.mark.parametrize(("function", "count"), SCATTERED.values(), ids=SCATTERED.keys())
def test_scattered_summands_are_merged(function, count, merge_exactly, convs_of):
    merged = merge_exactly(Net(function), torch.randn(2, 4, 5, 6))
    assert len(convs_of(merged)) == count
    assert not any(isinstance(module, nn.BatchNorm2d) for module in merged.modules())


@pytest.mark.parametrize("function", [f for f, _ in SCATTERED.values()], ids=SCATTERED.keys())
def test_reordered_sum_is_the_same_and_final(function):
    image = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    model, known = features(function, image)
    adds = operator.add, torch.add
    before = sum(node.target in adds for node in known.graph_module.graph.nodes)
    assert gather_sums(known, affine_values(known))
    graph_module = known.graph_module
    assert sum(node.target in adds for node in graph_module.graph.nodes) == before
    torch.testing.assert_close(graph_module(image), model(image), rtol=1e-12, atol=1e-12)
    text = str(graph_module.graph)
    assert not gather_sums(known, affine_values(known))
    assert str(graph_module.graph) == text


@pytest.mark.parametrize("function", KEPT.values(), ids=KEPT.keys())
def test_other_sums_keep_their_text(function):
    _, known = features(function, torch.randn(2, 4, 5, 6, dtype=torch.float64))
    before = str(known.graph_module.graph)
    assert not gather_sums(known, affine_values(known))
    assert str(known.graph_module.graph) == before


def test_parts_of_a_kept_sum_are_merged(merge_exactly, convs_of):
    merged = merge_exactly(Net(sum_used_elsewhere), torch.randn(2, 4, 5, 6))
    assert convs_of(merged) == ["a.0", "b.0"]


def test_sum_that_is_read_twice_stays_whole(merge_exactly, convs_of):
    merged = merge_exactly(Net(sum_used_twice), torch.randn(2, 4, 5, 6))
    assert convs_of(merged) == ["a.0", "b.0"]


def test_summand_that_is_used_elsewhere_is_not_merged_with_others(merge_exactly, convs_of):
    merged = merge_exactly(Net(summand_used_elsewhere), torch.randn(2, 4, 5, 6))
    assert convs_of(merged) == ["a.0", "b.0"]


def test_largest_part_comes_first():
    _, known = features(larger_of_two_parts, torch.randn(2, 4, 5, 6, dtype=torch.float64))
    assert gather_sums(known, affine_values(known))
    sums = [node for node in known.graph_module.graph.nodes if node.target is operator.add]
    names = [operand.name for operand in sums[1].args]
    assert [operand.name for operand in sums[0].args] == ["b_1", "d_1"]
    assert names == [sums[0].name, "x"]


class TwoActivations(nn.Module):
    """A function of two activations of an image and of four convolutions."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.branches = nn.ModuleList(nn.Conv2d(4, 4, k, padding=k // 2) for k in (3, 5, 1, 3))

    def forward(self, x):
        return self.function(F.relu(x), F.gelu(x), *self.branches)


def of_two_sources(x, y, a, b, c, d):
    return torch.cat([a(x), b(y)], 1) + torch.cat([c(x), d(y)], 1)


def along_the_height(x, y, a, b, c, d):
    return torch.cat([a(x), b(y)], dim=2) + torch.cat((c(x), d(y)), dim=2)


def one_pair(x, y, a, b, c, d):
    return torch.cat([a(x), b(y)], 1) + torch.cat([c(x), d(x)], 1)


def crossed(x, y, a, b, c, d):
    return torch.cat([a(x), b(y)], 1) + torch.cat([c(y), d(x)], 1)


def read_again(x, y, a, b, c, d):
    joined = torch.cat([a(x), b(y)], 1)
    return joined + torch.cat([c(x), d(y)], 1), joined


def along_two_axes(x, y, a, b, c, d):
    rows = torch.cat([a(x), b(y)], 2)
    return rows + torch.cat([c(x), d(y)], 3).reshape(rows.shape)


def overwritten(x, y, a, b, c, d):
    part = a(x)
    joined = torch.cat([part, b(y)], 1)
    part.mul_(part)
    return joined + torch.cat([c(x), d(y)], 1), part


def view_overwritten(x, y, a, b, c, d):
    part = a(x)
    joined = torch.cat([part, b(y)], 1)
    part[:, :1].mul_(2)
    return joined + torch.cat([c(x), d(y)], 1), part


def doubled(x, y, a, b, _, __):
    joined = torch.cat([a(x), b(y)], 1)
    return joined + joined


CASES = {
    "two_sources": (of_two_sources, 2), "height": (along_the_height, 2), "one_pair": (one_pair, 3),
    "crossed": (crossed, 4), "read_again": (read_again, 4), "two_axes": (along_two_axes, 4),
    "overwritten": (overwritten, 4),
    "view_overwritten": (view_overwritten, 3),  # torch.export writes it without the mutation.
}  # fmt: skip


@pytest.mark.parametrize(("function", "convs"), CASES.values(), ids=CASES.keys())
def test_parts_of_one_source_merge(function, convs, merge_exactly, convs_of):
    model = TwoActivations(function)
    merged = merge_exactly(model, torch.randn(2, 4, 8, 8))
    assert len(convs_of(merged)) == convs
    other = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    for found, known in zip(merged(other), model(other), strict=True):
        torch.testing.assert_close(found, known, rtol=1e-9, atol=1e-9)
