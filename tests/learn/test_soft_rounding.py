"""Soft rounding around integers that exist already."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repq_fx.learn.soft_rounding import SoftRounding
from repq_fx.quant.grid import Grid


def drawn(bits, seed, *, per_row=True, distance=0.5, shape=(4, 3, 2, 2), exponent=0):
    """A float weight at most `distance` levels from random integers."""
    generator = torch.Generator().manual_seed(seed)
    grid = Grid.symmetric(bits)
    scale = torch.rand(shape[0] if per_row else 1, generator=generator) + 0.5
    scale = scale * 2.0**exponent
    integers = torch.randint(grid.quant_min, grid.quant_max + 1, shape, generator=generator)
    offset = distance * (2 * torch.rand(shape, generator=generator) - 1)
    steps = scale.reshape(-1, *[1] * (len(shape) - 1))
    return (integers + offset) * steps, integers.to(torch.int8), scale, steps, grid


@given(
    bits=st.integers(2, 8),
    per_row=st.booleans(),
    distance=st.sampled_from([0.0, 0.5, 1.0, 3.0, 1000.0]),
    exponent=st.integers(-50, 20),
    seed=st.integers(0, 2**31),
)
def test_rounding_at_once_gives_the_integers_given(bits, per_row, distance, exponent, seed):
    weight, integers, scale, steps, grid = drawn(
        bits, seed, per_row=per_row, distance=distance, exponent=exponent
    )
    rounding = SoftRounding(weight, integers, scale, grid)
    assert torch.equal(rounding.integers(), integers.float())
    assert not rounding.integers().requires_grad
    with torch.no_grad():
        soft = rounding(None)[0] / steps
        # Near the integer, on the side of the float weight or at the bound.
        assert ((soft - integers).abs() <= 0.101).all()
        assert ((soft >= grid.quant_min) & (soft <= grid.quant_max)).all()
        inside = integers.abs() < grid.quant_max
        assert ((soft - integers) * (weight / steps - integers) >= -1e-6)[inside].all()
        for sign in (1, -1):
            rounding.logits.fill_(100.0 * sign)
            value, _ = rounding(None)
            assert torch.equal(value, rounding.integers() * steps)
            assert rounding.undecided() == 0
        assert (rounding.integers() >= grid.quant_min).all()
        rounding.logits.fill_(100.0)
        assert (rounding.integers() <= grid.quant_max).all()


def test_both_levels_can_be_reached_next_to_the_float_weight():
    weight, integers, scale, steps, grid = drawn(4, 0)
    rounding = SoftRounding(weight, integers, scale, grid)
    levels = (weight / steps).clamp(grid.quant_min, grid.quant_max)
    with torch.no_grad():
        rounding.logits.fill_(-9)
        assert (rounding.integers() <= levels).all()
        rounding.logits.fill_(9)
        assert (rounding.integers() >= levels).all()


def test_a_decided_logit_is_the_hard_value():
    weight, integers, scale, steps, grid = drawn(4, 1, per_row=False)
    rounding = SoftRounding(weight, integers, scale, grid)
    with torch.no_grad():
        rounding.logits.copy_(4 * torch.where(torch.rand_like(weight) < 0.5, 1.0, -1.0))
        value, regularizer = rounding(8.0)
    assert torch.equal(value, rounding.integers() * steps)
    assert regularizer == 0
    assert rounding.undecided() == 0


def test_undecided_is_the_share_between_the_levels():
    weight, integers, scale, _, grid = drawn(4, 1)
    rounding = SoftRounding(weight, integers, scale, grid)
    with torch.no_grad():
        rounding.logits.fill_(5.0)
        rounding.logits.view(-1)[:12] = 0.0
    assert rounding.undecided() == pytest.approx(12 / 48)


@pytest.mark.parametrize("beta", [2.0, 7.5, 20.0])
def test_the_regularizer_is_that_of_the_paper(beta):
    weight, integers, scale, _, grid = drawn(4, 2)
    rounding = SoftRounding(weight, integers, scale, grid)
    h = (1.2 * torch.sigmoid(rounding.logits.double()) - 0.1).clamp(0, 1)
    expected = (1 - (2 * h - 1).abs() ** beta).sum()
    _, regularizer = rounding(beta)
    torch.testing.assert_close(regularizer.double(), expected, rtol=1e-5, atol=0)
    assert rounding(None)[1] == 0
    (gradient,) = torch.autograd.grad(regularizer, rounding.logits)
    (wanted,) = torch.autograd.grad(expected, rounding.logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-5)


def test_every_weight_can_still_move():
    """At the start no logit is where its sigmoid has no gradient, however far the weight."""
    weight, integers, scale, _, grid = drawn(4, 3, distance=50.0)
    rounding = SoftRounding(weight, integers, scale, grid)
    rounding(None)[0].sum().backward()
    assert (rounding.logits.grad > 0).all()


def test_only_the_logits_are_learned():
    weight, integers, scale, _, grid = drawn(4, 3)
    rounding = SoftRounding(weight.requires_grad_(), integers, scale, grid)
    assert [name for name, _ in rounding.named_parameters()] == ["logits"]
