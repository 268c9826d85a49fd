import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from repq_fx.ops import range_losses, range_losses_reference

op = torch.ops.repq_fx.range_losses.default
POWERS = {"mae": 1.0, "mse": 2.0, "lp2.4": 2.4, "lp0.5": 0.5, "cosine": None}
COUNTS, SCALES = torch.ones(8).double(), torch.ones(2).double()
ZEROS = torch.zeros(2, 3, dtype=torch.int64)


def assert_equals_reference(arguments, power: float | None):
    losses, expected = op(*arguments, power), range_losses_reference(*arguments, power)
    if power in (1.0, 2.0):
        torch.testing.assert_close(losses, expected, rtol=0, atol=0)
    elif power is None:  # Some builds of torch do not round square roots correctly.
        torch.testing.assert_close(losses, expected, rtol=0, atol=2**-51)
    else:
        # Differences of antiderivatives of up to `bins**(power + 1)` cancel.
        counts = arguments[0]
        largest = counts.max() * len(counts) ** (power + 1.0)
        torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-13 * float(largest))


@st.composite
def searches(draw):
    """Counts with runs, gaps and spikes; scales finer and coarser than a bin; all zero points."""
    count = st.one_of(st.just(0), st.integers(0, 50), st.just(10**9))
    bins = draw(st.integers(1, 40))
    counts = draw(st.lists(count, min_size=2 * bins, max_size=2 * bins))
    scales = draw(st.lists(st.floats(1e-3, 100), max_size=20))
    quant_min, levels = draw(st.integers(-20, 5)), draw(st.integers(1, 40))
    columns = draw(st.integers(0, 5))
    zero_points = torch.randint(quant_min, quant_min + levels + 1, (len(scales), columns))
    return (
        torch.tensor(counts, dtype=torch.float64),
        torch.tensor(scales, dtype=torch.float64),
        zero_points,
        quant_min,
        quant_min + levels,
    )


@pytest.mark.parametrize("power", POWERS.values(), ids=POWERS)
@given(searches())
def test_matches_reference(power, arguments):
    assert_equals_reference(arguments, power)


def bell(bins: int) -> Tensor:
    return (1e6 * torch.exp(-(torch.linspace(-5, 5, 2 * bins) ** 2) / 2)).floor().double()


@pytest.mark.parametrize("power", POWERS.values(), ids=POWERS)
def test_matches_reference_on_large_histograms(power):
    scales = 32.0 * 0.97 ** torch.arange(101, dtype=torch.float64)
    zero_points = torch.arange(0, 256, 5)
    arguments = (bell(2048), scales, zero_points.expand(101, -1), 0, 255)
    assert_equals_reference(arguments, power)  # More candidates than are evaluated one by one.
    assert_equals_reference(
        (bell(2048), scales, zero_points[None, :1].expand(101, 1), 0, 255), power
    )


@pytest.mark.parametrize("power", POWERS.values(), ids=POWERS)
def test_any_layout(power):
    counts, scales = torch.rand(32).double(), torch.rand(9).double() + 0.1
    zero_points = torch.randint(0, 8, (4, 9))
    expected = op(counts, scales, zero_points.t().contiguous(), 0, 7, power)
    apart = torch.stack((counts, -counts), dim=1)[:, 0], torch.stack((scales, scales), dim=1)[:, 1]
    assert torch.equal(op(*apart, zero_points.t(), 0, 7, power), expected)


@pytest.mark.parametrize("power", POWERS.values(), ids=POWERS)
def test_neither_threads_nor_other_candidates_change_a_loss(power):
    counts, scales = bell(1024), torch.linspace(20, 0.1, 300, dtype=torch.float64)
    zero_points = torch.full((300, 1), 100)
    together, threads = op(counts, scales, zero_points, 0, 255, power), torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            assert torch.equal(op(counts, scales, zero_points, 0, 255, power), together)
    finally:
        torch.set_num_threads(threads)
    for i in (0, 7, 150, 299):
        alone = op(counts, scales[i : i + 1], zero_points[:1], 0, 255, power)
        if power is None:  # The reference, where there is no kernel, takes square roots in vectors.
            torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=2**-51)
        elif power in (1.0, 2.0):
            assert torch.equal(alone, together[i : i + 1])


@pytest.mark.parametrize("power", POWERS.values(), ids=POWERS)
def test_a_scale_of_many_bins_costs_what_its_levels_say(power):
    # One value in the middle of each bin's half: level 0 holds the bins up to 1, level 1 the rest.
    counts = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 6.0], dtype=torch.float64)
    loss = op(counts, torch.tensor([4.0]).double(), torch.tensor([[0]]), 0, 1, power).item()
    # The values lie evenly between 3 and 4; all become 4.
    expected = 1 - 3.5 / math.sqrt(37 / 3) if power is None else 6 / (power + 1)
    assert loss == pytest.approx(expected, rel=1e-12)


def test_integer_counts_and_no_data():
    counts = torch.tensor([0, 3, 2, 9])
    arguments = (SCALES, ZEROS, 0, 3, 2.0)
    assert torch.equal(range_losses(counts, *arguments), op(counts.double(), *arguments))
    nothing = torch.zeros(8)
    assert range_losses(nothing, *arguments).eq(0).all()
    assert range_losses(nothing, SCALES, ZEROS, 0, 3, None).eq(1).all()


@pytest.mark.parametrize("power", POWERS.values(), ids=POWERS)
def test_opcheck(power):
    torch.library.opcheck(op, (bell(16), torch.tensor([3.0, 0.4]).double(), ZEROS, 0, 3, power))
