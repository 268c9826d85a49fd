"""Ranges judged by the outputs of the layers that read them, on a part of their tensors."""

import pytest
import torch
from torch import nn

from repq_fx.quant import MSE, ActivationObserver, MinMax, TensorPlan
from repq_fx.refine.output_search import _FACTORS, representative_part, search_range


def observer_of(values, rule, bits=4, *, symmetric=False):
    observer = ActivationObserver(TensorPlan(rule, bits, symmetric=symmetric))
    observer.histogram.update(values)
    return observer


def search(observer, readers, exact, arriving):
    return search_range(observer, observer.parameters_of_range(), readers, exact, arriving)


def output_error(observer, parameters, readers, exact, arriving):
    rounded = observer.fake_quantize(arriving, parameters)
    return sum(
        ((reader(rounded) - reader(exact)).square().sum() / reader(exact).square().sum()).item()
        for reader in readers
    )


@pytest.mark.parametrize("rule", [MinMax(), MSE()], ids=str)
@pytest.mark.parametrize("activation", [torch.relu, nn.functional.silu, nn.functional.gelu])
@torch.no_grad()
def test_no_scaled_range_is_better_for_the_outputs(rule, activation):
    torch.manual_seed(0)
    exact = activation(2 * torch.randn(4, 8, 12, 12))
    arriving = exact + 0.02 * torch.randn_like(exact)
    readers = [nn.Conv2d(8, 6, 3), nn.Conv2d(8, 8, 3, groups=8)]
    observer = observer_of(arriving, rule)
    start = observer.parameters_of_range()
    found = search(observer, readers, exact, arriving)
    least = output_error(observer, found, readers, exact, arriving)
    for factor in _FACTORS:
        scaled = type(start)(start.scale * factor, start.zero_point)
        assert least <= output_error(observer, scaled, readers, exact, arriving) * (1 + 1e-6)


@torch.no_grad()
def test_a_channel_that_nothing_weighs_does_not_widen_the_range():
    torch.manual_seed(0)
    values = torch.rand(2, 2, 16, 16)
    values[:, 1] *= 1.4
    layer = nn.Conv2d(2, 3, 1)
    layer.weight[:, 1] = 0
    observer = observer_of(values, MinMax())
    found = search(observer, [layer], values, values)
    assert found.scale < 0.85 * observer.parameters_of_range().scale


@torch.no_grad()
def test_the_ends_of_a_two_sided_range_move_alone_unless_symmetric():
    torch.manual_seed(0)
    values = torch.rand(1, 1, 64, 64) * 2 - 1
    values[0, 0, 0, :2] = torch.tensor([-1.5, 1.1])  # The outputs do not see the first row.
    layer = nn.Conv2d(1, 1, 1, bias=False)

    def reader(tensor):
        return layer(tensor)[:, :, 1:]

    free = observer_of(values, MinMax(), bits=6)
    before = free.parameters_of_range().real_range(free.grid)
    lowest, highest = search(free, [reader], values, values).real_range(free.grid)
    assert lowest / before[0] < 0.8 < highest / before[1]
    tied = observer_of(values, MinMax(), bits=6, symmetric=True)
    found = search(tied, [reader], values, values)
    assert found.zero_point == 32
    assert found.scale < tied.parameters_of_range().scale


@torch.no_grad()
def test_outputs_that_are_always_zero_keep_the_rule():
    values = torch.rand(1, 2, 4, 4)
    layer = nn.Conv2d(2, 1, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    observer = observer_of(values, MinMax())
    assert search(observer, [layer], values, values) == observer.parameters_of_range()


@pytest.mark.parametrize("seed", range(6))
@torch.no_grad()
def test_going_downhill_finds_what_trying_all_finds_and_tries_fewer(seed):
    torch.manual_seed(seed)
    values = torch.relu(torch.randn(8, 6, 12, 12)) ** (1 + seed / 4)
    layer = nn.Conv2d(6, 8, 3)
    tried = []

    def reader(tensor):
        tried.append(tensor)
        return layer(tensor)

    observer = observer_of(values, MinMax())
    start = observer.parameters_of_range()
    found = search(observer, [reader], values, values)
    assert len(tried) - 1 < len(_FACTORS)
    best = min(
        (start.scaled(factor) for factor in _FACTORS),
        key=lambda candidate: output_error(observer, candidate, [layer], values, values),
    )
    assert found == best


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
