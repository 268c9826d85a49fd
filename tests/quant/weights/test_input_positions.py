"""The positions at which second moments are measured."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repq_fx.quant.weights.gptq import InputMoment
from repq_fx.quant.weights.input_positions import columns_of, enough_positions, entries_met

LAYERS = {
    "pointwise": lambda: nn.Conv2d(4, 3, 1),
    "dense": lambda: nn.Conv2d(4, 3, 3, padding=1),
    "strided": lambda: nn.Conv2d(4, 3, 3, stride=2, padding=1),
    "depthwise": lambda: nn.Conv2d(4, 4, 5, padding=2, groups=4),
    "dilated": lambda: nn.Conv2d(4, 3, (3, 1), padding=(2, 0), dilation=2),
    "reflect": lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"),
}


def smooth(shape):
    torch.manual_seed(0)
    coarse = torch.randn(*shape[:2], -(-shape[2] // 4), -(-shape[3] // 4))
    data = F.interpolate(coarse, shape[2:], mode="bilinear")
    return torch.relu(data + torch.randn(1, shape[1], 1, 1))


@pytest.mark.parametrize("make_layer", LAYERS.values(), ids=LAYERS)
def test_a_few_positions_are_all_taken(make_layer):
    layer, images = make_layer(), smooth((3, 4, 9, 11))
    columns = torch.cat(list(columns_of(layer, images)), 2)
    with torch.no_grad():
        expected = layer(images)
        weight = layer.weight.reshape(layer.groups, -1, columns.shape[1])
        outputs = (weight @ columns).flatten(0, 1) + layer.bias[:, None]
    assert torch.allclose(outputs, expected.transpose(0, 1).flatten(1), atol=1e-5)


@pytest.mark.parametrize("make_layer", LAYERS.values(), ids=LAYERS)
def test_of_many_positions_no_more_than_needed_are_taken_and_tell_the_same(make_layer, monkeypatch):
    layer, images = make_layer(), smooth((24, 4, 64, 64))
    sampled = InputMoment.of(layer, images, centered=True)
    enough = enough_positions(layer)
    assert 0.9 * enough <= sampled.count <= 2 * enough  # A shifted grid may lose its last row.
    monkeypatch.setattr("repq_fx.quant.weights.input_positions._POSITIONS", 10**9)
    every = InputMoment.of(layer, images, centered=True)
    assert every.count == layer(images)[:, 0].numel()
    error = torch.linalg.vector_norm(sampled.values - every.values)
    assert error < 0.1 * torch.linalg.vector_norm(every.values)


def test_an_image_of_another_shape_than_square_and_one_alone():
    layer = nn.Conv2d(2, 2, 1)
    for shape in [(2, 1, 20000), (1, 2, 20000, 1), (1, 2, 3, 12001)]:
        columns = torch.cat(list(columns_of(layer, torch.randn(shape))), 2)
        assert enough_positions(layer) <= columns.shape[2] <= 2 * enough_positions(layer)


def test_borders_count_as_they_do_among_all():
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    columns = torch.cat(list(columns_of(layer, torch.ones(256, 1, 32, 32))), 2)
    in_padding = (columns == 0).double().mean(2)[0].reshape(3, 3)
    assert columns.shape[2] < 256 * 32 * 32 / 8
    assert in_padding[0, 1].item() == pytest.approx(1 / 32, rel=0.3)
    assert in_padding[2, 1].item() == pytest.approx(1 / 32, rel=0.3)
    assert in_padding[1, 0].item() == pytest.approx(1 / 32, rel=0.3)
    assert in_padding[1, 2].item() == pytest.approx(1 / 32, rel=0.3)


def test_tokens_are_taken_evenly():
    layer = nn.Linear(8, 4)
    tokens = torch.arange(40000.0).reshape(50, 800, 1).expand(-1, -1, 8)
    (columns,) = columns_of(layer, tokens)
    assert enough_positions(layer) <= columns.shape[2] <= 2 * enough_positions(layer)
    assert (columns[0, 0].diff() == columns[0, 0, 1]).all()


def test_what_is_read_at_once_is_bounded(monkeypatch):
    layer, images = nn.Conv2d(3, 4, 3, padding=1), smooth((9, 3, 8, 8))
    (whole,) = columns_of(layer, images)
    monkeypatch.setattr("repq_fx.quant.weights.input_positions._VALUES_AT_ONCE", 2 * 27 * 64)
    parts = list(columns_of(layer, images))
    assert [part.shape[2] for part in parts] == [128, 128, 128, 128, 64]
    assert torch.equal(torch.cat(parts, 2), whole)


def test_the_columns_are_the_callers_own():
    for layer, shape in ((nn.Conv2d(3, 3, 1), (2, 3, 4, 4)), (nn.Linear(3, 3), (5, 3))):
        values = torch.rand(shape)
        before = values.clone()
        for columns in columns_of(layer, values):
            columns.zero_()
        assert torch.equal(values, before)


def test_entries_that_meet_nothing_but_zeros():
    layer = nn.Conv2d(2, 2, 3, padding=1)
    images = torch.zeros(2, 2, 5, 5)
    images[1, 1, 2, 2] = -1
    assert torch.equal(
        entries_met(layer, images)[0].reshape(2, 9).any(1), torch.tensor([False, True])
    )
    met = entries_met(layer, torch.ones(1, 2, 1, 1)).reshape(2, 3, 3)
    assert met[:, 1, 1].all()
    assert met.sum() == 2
    tokens = torch.zeros(4, 3)
    tokens[2, 1] = 1
    assert entries_met(nn.Linear(3, 2), tokens).tolist() == [[False, True, False]]


def test_a_value_at_a_position_that_is_not_taken_is_still_met():
    layer = nn.Conv2d(1, 1, 1)
    images = torch.zeros(1, 1, 400, 400)
    images[0, 0, 201, 203] = 1
    assert not any(columns.any() for columns in columns_of(layer, images))
    assert entries_met(layer, images).all()
