"""The parts that an integration puts a graph back with."""

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import RepqError, TraceError
from repq_fx.integrations.prediction_maps import (
    Channels,
    PredictionMaps,
    only_image_size,
    require_side,
)


class Levels(nn.Module):
    """Two maps for each of two levels."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 2, 1, stride=8) for _ in range(4))

    def forward(self, image):
        return tuple(conv(image) for conv in self.convs)


def traced(model, images):
    return repq_fx.reparameterize(model.eval(), images)


def test_maps_are_joined_by_level():
    images = torch.randn(2, 3, 32, 48)
    graph = traced(Levels(), images)
    maps = PredictionMaps(graph, 2)(images)
    assert isinstance(maps, list)
    expected = graph(images)
    assert torch.equal(Channels(0, 2)(maps[1]), expected[2])
    assert torch.equal(Channels(2, 4)(maps[1]), expected[3])


def test_any_size():
    model, images = Levels().eval(), torch.randn(1, 3, 32, 32)
    assert only_image_size(traced(model, images), model, images, 8) is None


class Fixed(nn.Module):
    """What tracing makes of a model that computes positions by Python numbers."""

    def forward(self, image):
        height, width = image.shape[2:]
        ramp = torch.linspace(0, 1, int(height) * int(width)).reshape(1, 1, int(height), int(width))
        return (image + ramp,)


class Baked(nn.Module):
    def __init__(self, height, width):
        super().__init__()
        self.register_buffer(
            "ramp", torch.linspace(0, 1, height * width).reshape(1, 1, height, width)
        )

    def forward(self, image):
        return (image + self.ramp,)


def test_the_only_size_is_found_and_named():
    images = torch.randn(1, 3, 32, 48)
    graph = traced(Baked(32, 48), images)
    size = only_image_size(graph, Fixed().eval(), images, 8)
    assert size == (32, 48)
    maps = PredictionMaps(graph, 1, size)
    assert maps(images)[0].shape == images.shape
    with pytest.raises(RepqError, match="was quantized for 32x48, got 40x48"):
        maps(torch.randn(1, 3, 40, 48))


def test_a_baked_batch_size_is_refused():
    class OneImage(nn.Module):
        def forward(self, image):
            return (image.reshape(1, -1, 4, 4),)

    class Any(nn.Module):
        def forward(self, image):
            return (image.reshape(len(image), -1, 4, 4),)

    images = torch.randn(1, 3, 8, 8)
    with pytest.raises(TraceError, match="runs for batches of 1 only"):
        only_image_size(traced(OneImage(), images), Any().eval(), images, 8)


@pytest.mark.parametrize("side", [0, -32, 100, 64.0, "64"])
def test_sides(side):
    with pytest.raises(RepqError, match="imgsz must be a multiple of the stride 32, got"):
        require_side(side, 32)
    require_side(96, 32)
