"""Coordinate descent after rounding: what it promises, and the best of all roundings."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from repq_fx.quant.grid import Grid
from repq_fx.quant.weights.coordinate_descent import improve_rounding
from repq_fx.quant.weights.gptq import InputMoment, compensated_rounding


def problem(seed, *, groups=1, inputs=6, outputs=4, per_tensor=False, bits=3):
    torch.manual_seed(seed)
    layer = nn.Conv2d(inputs, outputs, 1, groups=groups)
    data = torch.randn(8, inputs, 4, 4)
    data = data + 2 * data.roll(1, 1)
    moment = InputMoment.of(layer, data, centered=False)
    weight = layer.weight.detach()
    grid = Grid.symmetric(bits)
    largest = weight.abs().amax() if per_tensor else weight.abs().amax((1, 2, 3))
    return weight, largest.reshape(-1) / grid.quant_max, grid, moment


def damped_error(weight, integers, scale, moment):
    """What is minimized: the outputs' error, with the damping that GPTQ has too."""
    error = moment.rows_of(
        weight.double() - integers.double() * scale.double()[:, None, None, None]
    )
    hessian = moment.values + torch.diag_embed(moment.damping())
    return ((error @ hessian) * error).sum()


@given(
    seed=st.integers(0, 2**31),
    groups=st.sampled_from([1, 2]),
    inputs=st.sampled_from([2, 6, 140]),
    per_tensor=st.booleans(),
    bits=st.integers(2, 8),
    fits_scale=st.booleans(),
    start=st.sampled_from(["nearest", "gptq", "random"]),
)
def test_the_error_never_rises(seed, groups, inputs, per_tensor, bits, fits_scale, start):
    weight, scale, grid, moment = problem(
        seed, groups=groups, inputs=inputs, per_tensor=per_tensor, bits=bits
    )
    if start == "nearest":
        integers = (weight / scale.reshape(-1, 1, 1, 1)).round()
    elif start == "gptq":
        integers = compensated_rounding(weight, scale, torch.zeros_like(weight), grid, moment)
    else:
        integers = torch.randint(grid.quant_min, grid.quant_max + 1, weight.shape).float()
    given_integers, given_scale = integers.clone(), scale.clone()
    found, steps = improve_rounding(weight, integers, scale, grid, moment, fits_scale=fits_scale)
    assert torch.equal(integers, given_integers)
    assert torch.equal(scale, given_scale)
    assert found.shape == weight.shape
    assert found.dtype == steps.dtype == torch.float32
    assert steps.shape == scale.shape
    assert fits_scale or torch.equal(steps, scale)
    assert torch.equal(found, found.round())
    assert found.abs().max() <= grid.quant_max
    assert (steps > 0).all()
    before = damped_error(weight, integers, scale, moment)
    after = damped_error(weight, found, steps, moment)
    assert after <= before * (1 + 1e-6)
    if start == "random" and bits > 2:
        assert after < before


def brute_force(weight, scale, grid, moment):
    levels = range(grid.quant_min, grid.quant_max + 1)
    rows = [torch.tensor(row).reshape(weight.shape).float() for row in product(levels, repeat=3)]
    return min(rows, key=lambda row: damped_error(weight, row, scale, moment))


@pytest.mark.parametrize("seed", range(8))
def test_a_result_is_the_best_among_its_neighbours_and_the_optimum_stays(seed):
    weight, scale, grid, moment = problem(seed, inputs=3, outputs=1, bits=2)
    best = brute_force(weight, scale, grid, moment)
    found, _ = improve_rounding(weight, best, scale, grid, moment, fits_scale=False)
    assert torch.equal(found, best)
    for offset in (-1, 1):
        start = (best + offset).clamp(-1, 1)
        found, _ = improve_rounding(weight, start, scale, grid, moment, fits_scale=False)
        error = damped_error(weight, found, scale, moment)
        for place, level in product(range(3), (-1, 0, 1)):
            other = found.clone()
            other[0, place] = level
            assert error <= damped_error(weight, other, scale, moment) * (1 + 1e-12)


def test_independent_inputs_are_rounded_to_nearest():
    layer = nn.Linear(70, 3)
    moment = InputMoment.of(layer, 100 * torch.eye(70), centered=False)
    weight, grid = layer.weight.detach(), Grid.symmetric(4)
    scale = weight.abs().amax(1) / 5  # Some are clipped.
    nearest = (weight / scale[:, None]).round().clamp(-7, 7)
    found, _ = improve_rounding(
        weight, torch.zeros_like(weight), scale, grid, moment, fits_scale=False
    )
    assert torch.equal(found, nearest)


@pytest.mark.parametrize("per_tensor", [False, True])
def test_the_scale_is_that_of_least_squares(per_tensor):
    weight, _, grid, moment = problem(0, per_tensor=per_tensor, bits=8)
    integers = torch.randint(-20, 21, weight.shape).float()
    exact = torch.rand(1 if per_tensor else 4) + 0.5
    target = integers * exact.reshape(-1, 1, 1, 1)
    found, steps = improve_rounding(target, integers, exact, grid, moment, fits_scale=True)
    assert torch.equal(found, integers)
    torch.testing.assert_close(steps, exact, rtol=1e-6, atol=0)


def test_a_row_of_zeros_keeps_its_scale():
    weight, scale, grid, moment = problem(0)
    weight[1] = 0
    found, steps = improve_rounding(
        weight, torch.zeros_like(weight), scale, grid, moment, fits_scale=True
    )
    assert not found[1].any()
    assert steps[1] == scale[1]
    assert torch.isfinite(steps).all()


def test_inputs_that_are_always_zero_are_no_trouble():
    layer = nn.Linear(5, 2)
    moment = InputMoment.of(layer, torch.zeros(4, 5), centered=False)
    weight, grid = layer.weight.detach(), Grid.symmetric(3)
    found, steps = improve_rounding(
        weight, torch.zeros(2, 5), torch.full((2,), 0.1), grid, moment, fits_scale=True
    )
    assert torch.isfinite(found).all()
    assert torch.isfinite(steps).all()
