"""Ranges judged by the outputs of the layers that read them."""

import pytest
import torch
from torch import nn

from repq_fx.quant import MSE, ActivationObserver, MinMax, TensorPlan
from repq_fx.refine.output_search import _FACTORS, search_range


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
