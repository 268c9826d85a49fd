import pytest
import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
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
    model = Net(function)
    merged = merge_exactly(model, torch.randn(2, 4, 8, 8))
    assert len(convs_of(merged)) == convs
    other = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    for found, known in zip(merged(other), model(other), strict=True):
        torch.testing.assert_close(found, known, rtol=1e-9, atol=1e-9)
