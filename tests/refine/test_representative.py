"""The part of a tensor that ranges are judged by."""

import pytest
import torch
from torch import nn

from repq_fx.refine.representative import representative_part


def test_small_tensors_are_taken_whole():
    for shape, reader in (((32, 4, 16, 16), nn.Conv2d(4, 2, 3)), ((64, 9), nn.Linear(9, 2)),
                          ((2, 3, 8, 8), nn.Identity())):  # fmt: skip
        values = torch.randn(shape)
        (part,) = representative_part([values], [reader])
        assert torch.equal(part, values)


def test_every_image_gives_one_tile_of_another_place():
    images = torch.arange(128.0 * 128).reshape(1, 1, 128, 128).repeat(64, 1, 1, 1)
    other = images + 0.5
    part, same = representative_part([images, other], [nn.Conv2d(1, 1, 3)])
    assert part.shape[:2] == (64, 1)
    assert 0 < 2 * part[0].numel() < 128 * 128
    assert torch.equal(same, part + 0.5)
    assert (part.diff(dim=3) == 1).all()
    assert (part.diff(dim=2) == 128).all()
    assert len(part[:, 0, 0, 0].unique()) > 60
    rows, columns = part[:, 0, 0, 0].long() // 128, part[:, 0, 0, 0].long() % 128
    for corner in (rows, columns):
        room = 128 - part.shape[2]
        assert corner.min() < 0.1 * room
        assert corner.max() > 0.9 * room
        assert corner.double().mean().item() == pytest.approx(room / 2, rel=0.1)


def test_a_tile_is_much_wider_than_the_kernel_that_reads_it():
    images = torch.randn(512, 1, 200, 40)
    readers = [nn.Conv2d(1, 1, 3, dilation=5), nn.Conv2d(1, 1, 1)]
    (part,) = representative_part([images], readers)
    assert part.shape == (512, 1, 44, 40)


def test_tokens_are_taken_evenly():
    tokens = torch.arange(32.0 * 4096).reshape(32, 64, 64, 1).expand(-1, -1, -1, 3)
    (part,) = representative_part([tokens], [nn.Linear(3, 2), nn.Identity()])
    assert part.shape[0] == 32
    assert part.shape[2] == 3
    assert part.shape[1] < 4096
    assert (part[0, :, 0].diff() == part[0, 1, 0] - part[0, 0, 0]).all()


def test_many_values_at_each_position_leave_fewer_images():
    images = torch.empty(1, 1, 1, 1).expand(64, 2**16, 4, 4)
    (part,) = representative_part([images], [nn.Identity()])
    assert len(part) == 32


def test_layers_of_both_kinds_read_the_whole_tensor():
    images = torch.randn(4, 8, 4096, 8)
    readers = [nn.Conv2d(8, 8, 1), nn.Linear(8, 8)]
    (part,) = representative_part([images], readers)
    assert torch.equal(part, images)
    assert [tuple(reader(part).shape) for reader in readers] == [(4, 8, 4096, 8)] * 2
