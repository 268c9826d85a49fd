"""The example that `quantize` takes from the calibration data."""

import pytest
import torch
from torch import nn

from repq_fx.passes.small_example import small_example


class Reshapes(nn.Module):
    def __init__(self, images):
        super().__init__()
        self.images = images

    def forward(self, x):
        return x.reshape(self.images, -1)


class Pairs(nn.Module):
    """Takes any even number of images and tells nothing about one of them."""

    def forward(self, x):
        return x.reshape(2, -1).sum(1, keepdim=True).expand(2, 7).sum()


def test_two_images_are_enough():
    images = torch.randn(9, 3, 4, 4)
    (few,) = small_example(nn.Conv2d(3, 2, 1), (images,))
    assert torch.equal(few, images[:2])


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (Reshapes(9), (torch.randn(9, 5),)),
        (Pairs(), (torch.randn(8, 6),)),
        (nn.Conv2d(3, 2, 1), (torch.randn(3, 4, 4),)),
        (nn.Conv2d(3, 2, 1), (torch.randn(2, 3, 4, 4),)),
        (nn.Bilinear(2, 2, 2), (torch.randn(4, 2), torch.randn(3, 2))),
        (nn.Identity(), (torch.tensor(1.0),)),
    ],
    ids=["number-of-images", "no-batch-left", "one-image", "two-images", "two-lengths", "a-number"],
)
def test_everything_else_stays(model, inputs):
    assert small_example(model, inputs) is inputs


def test_the_model_keeps_its_state():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small_example(model, (torch.randn(5, 2, 4),))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
