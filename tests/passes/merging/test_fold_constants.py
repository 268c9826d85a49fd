import pytest
import torch
from torch import nn
from torch.nn import functional as F


class Gated(nn.Module):
    """A convolution, an activation, and a gate that layers compute from a parameter."""

    def __init__(self, size=1, *, trained=True):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.start = nn.Parameter(torch.randn(1, 2, 1, 1))
        self.gate = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1))
        self.size = size
        self.requires_grad_(trained)

    def forward(self, x):
        gate = torch.sigmoid(self.gate(self.start)).expand(1, 4, self.size, self.size)
        return F.relu(self.conv(x)) * gate


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "frozen"])
def test_gate_becomes_a_parameter(trained, merge_exactly, convs_of):
    merged = merge_exactly(Gated(trained=trained), torch.randn(2, 4, 8, 8))
    assert convs_of(merged) == ["conv"]
    (value,) = [p for name, p in merged.named_parameters() if not name.startswith("conv")]
    assert value.shape == (1, 4, 1, 1)
    assert value.requires_grad == trained


def test_value_that_is_larger_than_its_parts_is_computed(merge_exactly, convs_of):
    model = Gated(size=8)
    merged = merge_exactly(model, torch.randn(2, 4, 8, 8))
    assert sorted(convs_of(merged)) == ["conv", "gate.0", "gate.2"]
    assert len(merged.state_dict()) == len(model.state_dict())
