"""Activation steps that are learned, against the quantizer and LSQ's formula."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repq_fx.learn.step import LearnedStep
from repq_fx.ops import fake_quantize
from repq_fx.quant import AffineParameters
from repq_fx.quant.grid import SMALLEST_SCALE, Grid

CPU = torch.device("cpu")


def step_of(scale=0.25, zero_point=3, bits=4):
    return LearnedStep(AffineParameters(scale, zero_point), Grid.unsigned(bits), CPU)


def rounded(data, scale, zero_point=3, bits=4):
    scale, zero_point = torch.tensor([scale]), torch.tensor([zero_point])
    return fake_quantize(data, scale, zero_point, 0, 2**bits - 1)


@given(
    bits=st.integers(2, 8),
    exponent=st.integers(-20, 20),
    growth=st.floats(-2, 2),
    seed=st.integers(0, 2**31),
)
def test_its_value_is_that_of_the_quantizer(bits, exponent, growth, seed):
    generator = torch.Generator().manual_seed(seed)
    step = step_of(2.0**exponent, 2, bits)
    step.growth.data.fill_(growth)
    found = step.result()
    assert found.zero_point == 2
    assert found.scale == pytest.approx(2.0**exponent * math.exp(growth), rel=1e-6)
    data = 8 * 2.0**exponent * torch.randn(50, generator=generator)
    with torch.no_grad():
        assert torch.equal(step(data), rounded(data, found.scale, 2, bits))
    # With gradients the factor is applied and taken out again, which may cost a last place.
    off = (step(data) - rounded(data, found.scale, 2, bits)).abs() / found.scale
    assert (off < 1e-3).float().mean() > 0.9
    assert (off < 1.01).all()


def test_what_is_not_learned_stays_as_it_is():
    parameters = AffineParameters(0.1, 3)  # Not a float32.
    step = LearnedStep(parameters, Grid.unsigned(8), CPU)
    assert step.result() is parameters


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("growth", [0.0, 0.3])
def test_the_gradient_is_that_of_lsq(bits, growth):
    step, data = step_of(bits=bits), torch.randn(1000).mul_(2)
    step.growth.data.fill_(growth)
    output_gradient = torch.randn(1000)
    data.requires_grad_()
    step(data).backward(output_gradient)
    scale, largest = 0.25 * math.exp(growth), 2**bits - 1
    levels = data.detach() / scale
    inside = ((levels.round() + 3) >= 0) & ((levels.round() + 3) <= largest)
    ends = torch.where(levels < 0, -3.0, largest - 3.0)
    by_scale = torch.where(inside, levels.round() - levels, ends)
    factor = 1 / math.sqrt(1000 * largest)
    # The parameter is the logarithm of the scale.
    expected = factor * scale * (by_scale * output_gradient).sum()
    torch.testing.assert_close(step.growth.grad, expected[None], rtol=1e-3, atol=1e-4)
    assert torch.equal(data.grad, torch.where(inside, output_gradient, 0.0))


def test_where_everything_is_clipped_the_gradient_is_the_slope():
    step, data = step_of(), torch.full((10,), 100.0)
    step(data).sum().backward()
    with torch.no_grad():
        values = []
        for growth in (-1e-3, 1e-3):
            step.growth.fill_(growth)
            values.append(step(data).sum())
    slope = (values[1] - values[0]) / 2e-3
    torch.testing.assert_close(step.growth.grad[0], slope / math.sqrt(10 * 15), rtol=1e-3, atol=0)


def test_values_are_kept_in_training_only():
    step, data = step_of(), torch.randn(4000)
    step.keep = 0.3
    step.seed(1)
    kept = (step(data) == data).float().mean()
    assert kept == pytest.approx(0.3, abs=0.05)
    assert torch.equal(step.eval()(data), rounded(data, 0.25))
    step.train().keep = 0.0
    torch.testing.assert_close(step(data), rounded(data, 0.25))


def test_equal_seeds_keep_the_same_values():
    data, drawn = torch.randn(1000), []
    for seed in (1, 1, 2):
        step = step_of()
        step.keep = 0.5
        step.seed(seed)
        drawn.append([step(data) == data for _ in range(2)])
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert torch.equal(drawn[0][1], drawn[1][1])
    assert not torch.equal(drawn[0][0], drawn[0][1])
    assert not torch.equal(drawn[0][0], drawn[2][0])


def test_steps_stay_positive():
    step = step_of()
    step.growth.data.fill_(-200.0)
    assert step.result().scale == SMALLEST_SCALE
    assert torch.isfinite(step(torch.randn(5))).all()
