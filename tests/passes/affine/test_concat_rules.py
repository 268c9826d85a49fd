from operator import attrgetter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from repq_fx import find_regions


class Branches(nn.Module):
    """A function of four branches and of what an image becomes by an activation."""

    def __init__(self, function, *sizes, bias=True, last=None):
        super().__init__()
        self.function, self.last = function, last
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4, 4, size, padding=size // 2, bias=bias), nn.BatchNorm2d(4))
            if bias
            else nn.Conv2d(4, 4, size, padding=size // 2, bias=False)
            for size in sizes
        )

    def forward(self, x):
        return self.function(self, F.relu(x), *self.branches)


def sum_of_concatenations(_, x, a, b, c, d):
    return torch.cat([a(x), b(x)], 1) + torch.cat((c(x), d(x)), dim=1)


def sum_with_identity(_, x, a, b, c):
    return torch.cat([a(x), b(x)], 1) + torch.cat([x, c(x)], -3)


def last_of_concatenation(net, x, a, b):
    return net.last(torch.cat(tensors=[a(x), b(x)], dim=1))


def along_the_width(net, x, a, b):
    return net.last(torch.cat([a(x), b(x)], 3))


def changes_first_channel(_, x, a, b):
    y = a(x)
    return torch.cat([b(y)[:, :1], y[:, 1:]], 1)


def changes_half_of_the_channels(_, x, a):
    y = torch.cat([a(x[:, :2]), x[:, 2:]], 1)
    return F.relu(y)


MERGED = {
    "part_of_its_input": lambda: Branches(changes_first_channel, 3, 1),
    "sums": lambda: Branches(sum_of_concatenations, 3, 3, 1, 1),
    "identity": lambda: Branches(sum_with_identity, 3, 3, 1),
    "pointwise_after": lambda: Branches(last_of_concatenation, 3, 3, last=nn.Conv2d(8, 4, 1)),
    "padded_after": lambda: Branches(
        last_of_concatenation, 1, 1, bias=False, last=nn.Conv2d(8, 2, 3, padding=1)
    ),
}
REFUSED = {
    "border": (
        lambda: Branches(last_of_concatenation, 1, 1, last=nn.Conv2d(8, 2, 3, padding=1)),
        "it pads with zeros after a bias, so the border would differ",
    ),
    "axis": (
        lambda: Branches(along_the_width, 3, 3, last=nn.Conv2d(4, 4, 1)),
        "it concatenates along axis 3, which holds no channels",
    ),
    "cost": (
        lambda: Branches(last_of_concatenation, 5, 1, last=nn.Conv2d(8, 16, 1)),
        "one convolution would need 1600 weights instead of 544",
    ),
}


def calls_of(merged):
    return [n for n in merged.graph.nodes if n.op == "call_module"]


@pytest.mark.parametrize("build", MERGED.values(), ids=MERGED.keys())
def test_concatenation_becomes_one_convolution(build, merge_exactly):
    model = build()
    merged = merge_exactly(model, torch.randn(2, 4, 8, 8))
    (call,) = calls_of(merged)
    assert call.name.endswith("reparam_conv")
    assert sum(p.numel() for p in merged.parameters()) < sum(p.numel() for p in model.parameters())
    other = torch.randn(3, 4, 13, 6, dtype=torch.float64)
    torch.testing.assert_close(merged(other), model(other), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("build", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_concatenation_that_is_no_convolution_keeps_its_layers(build, reason, merge_exactly):
    image = torch.randn(2, 4, 8, 8)
    assert len(calls_of(merge_exactly(build(), image))) == 3
    reasons = [region.reason for region in find_regions(build().eval(), image)]
    assert reason in reasons


def test_concatenation_alone_keeps_its_layers(merge_exactly):
    model = Branches(lambda _, x, a, b: torch.cat([a(x), b(x)], 1), 3, 3)
    merged = merge_exactly(model, torch.randn(2, 4, 8, 8))
    names = [str(node.target) for node in calls_of(merged)]
    assert names == ["branches.0.0", "branches.1.0"]
    assert all(isinstance(attrgetter(name)(merged), nn.Conv2d) for name in names)


def test_convolution_of_some_channels_keeps_its_size(merge_exactly):
    model = Branches(changes_half_of_the_channels)
    model.branches.append(nn.Conv2d(2, 2, 3, padding=1))
    merged = merge_exactly(model, torch.randn(2, 4, 8, 8))
    (call,) = calls_of(merged)
    assert attrgetter(str(call.target))(merged).weight.shape == (2, 2, 3, 3)
