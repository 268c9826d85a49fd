"""Assertions and all that nothing reads are taken out, and nothing else is."""

import torch
from torch import fx, nn
from torch.nn import functional as F

from repq_fx import find_regions, reparameterize
from repq_fx.passes.graph.remove_unused import erase_assertions


class Checked(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        x = self.conv(x)
        torch._assert(x.ndim == 4, f"expected 4 dimensions, got {x.ndim}")
        torch._assert(x.size(1) == 3, "expected 3 channels")
        torch._assert(x.size(2) % 2 == 0, "expected an even height")
        return x


class Mutating(nn.Module):
    def forward(self, x):
        y = x + 1
        y.mul_(2)
        return y.reshape(y.shape[0], -1)


def test_assertions_and_their_questions_are_erased():
    traced = fx.symbolic_trace(Checked())
    erase_assertions(traced)
    assert [node.op for node in traced.graph.nodes] == ["placeholder", "call_module", "output"]
    traced(torch.randn(1, 3, 2, 2))


def test_everything_else_stays():
    traced = fx.symbolic_trace(Mutating())
    before = str(traced.graph)
    erase_assertions(traced)
    assert str(traced.graph) == before
    assert torch.equal(traced(torch.ones(1, 2, 1)), torch.full((1, 2), 4.0))


class Net(nn.Module):
    """A convolution beside a dead one, a dead parameter and a dead buffer."""

    def __init__(self):
        super().__init__()
        self.conv, self.other = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.dead, self.uncalled = nn.Conv2d(4, 4, 3), nn.Linear(4, 4)
        self.parameter = nn.Parameter(torch.ones(50))
        self.register_buffer("buffer", torch.ones(60))

    def forward(self, x):
        y = self.conv(x)
        F.relu(self.dead(y))
        return y + self.other(x)


class OneLayer(Net):
    """As `Net`, with nothing to merge."""

    def forward(self, x):
        self.dead(x)
        return F.relu(self.conv(x))


class Overwrites(Net):
    """Overwrites a value by a view of it."""

    def forward(self, x):
        y = self.conv(x)
        y[:, :1].relu_()
        return y


def test_dead_reader_keeps_no_value_from_being_merged(merge_exactly):
    merged = merge_exactly(Net(), torch.randn(2, 4, 8, 8))
    assert list(merged.state_dict()) == ["reparam_conv.weight", "reparam_conv.bias"]
    assert all(region.merged for region in find_regions(Net().eval(), torch.randn(1, 4, 8, 8)))


def test_dead_parts_leave_a_model_without_regions(merge_exactly):
    model = OneLayer()
    merged = merge_exactly(model, torch.randn(2, 4, 8, 8))
    assert list(merged.state_dict()) == ["conv.weight", "conv.bias"]
    assert [node.op for node in merged.graph.nodes].count("call_module") == 1
    assert len(model.state_dict()) == 10


def test_step_that_overwrites_stays():
    model, image = Overwrites().eval(), torch.randn(2, 4, 8, 8)
    merged = reparameterize(model, image)
    torch.testing.assert_close(merged(image), model(image), rtol=0, atol=0)
    assert list(merged.state_dict()) == ["conv.weight", "conv.bias"]
