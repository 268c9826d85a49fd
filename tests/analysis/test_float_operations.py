"""What of a lowered network still runs in float."""

import torch
from torch import nn

import repq_fx
from repq_fx.analysis import float_operations


def lower(model):
    images = torch.randn(4, 3, 8, 8)
    return repq_fx.quantize(model.eval(), images, progress=False)


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, images):
        x = self.first(images).flip(2)
        x = self.second(torch.roll(x, 1, 2))
        return torch.softmax(x, 1), x


def test_a_network_of_one_program_has_none():
    assert float_operations(lower(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))) == {"ReLU": 1}
    assert float_operations(lower(nn.Conv2d(3, 4, 3))) == {}


def test_functions_methods_and_layers_are_counted_by_name():
    assert float_operations(lower(Mixed())) == {"flip": 1, "roll": 1, "softmax": 1}
