import torch
from torch import nn
from torch.nn import functional as F

from repq_fx import find_regions, reparameterize


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
