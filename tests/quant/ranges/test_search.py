"""The search over one threshold and over both ends of a range."""

import pytest
import torch

from repq_fx.quant import TensorHistogram
from repq_fx.quant.grid import AffineParameters, Grid, affine_parameters
from repq_fx.quant.ranges.quantization_error import CosineError, PowerError
from repq_fx.quant.ranges.search import best_range, range_losses

UNSIGNED = Grid.unsigned(8)
ERRORS = [PowerError(1.0), PowerError(2.0), PowerError(2.4), CosineError()]
IDS = ["mae", "mse", "lp2.4", "cosine"]


def histogram_of(values: torch.Tensor) -> TensorHistogram:
    histogram = TensorHistogram()
    histogram.update(values)
    return histogram


def noise(count: int = 100_000) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(0))


def outliers_on_both_sides(magnitude: float) -> torch.Tensor:
    values = noise()
    values[:40] = magnitude * values[:40].abs()
    values[40:80] = -0.2 * magnitude * values[40:80].abs()
    return values


DATA = {
    "normal": noise(),
    "silu": torch.nn.functional.silu(3 * noise()),
    "silu-saturated": torch.nn.functional.silu(6 * noise()).clamp(max=6.0),
    "skewed": noise().exp() - 0.5,
    "outliers": outliers_on_both_sides(60.0),
    "far-outliers": outliers_on_both_sides(1000.0),
    "mostly-negative": -torch.nn.functional.silu(3 * noise()),
    "two-values": torch.tensor([-1.0, 30.0]),
    "sparse": torch.tensor([-1e-6, 0.0, 0.5, 0.5, 1e6]),
}


def loss_of(histogram, ends, grid, error, *, symmetric=False):
    parameters = affine_parameters(*ends, grid, symmetric=symmetric)
    return range_losses(histogram, [parameters], grid, error).item()


def magnitude_search(histogram, grid, error, *, symmetric=False):
    largest = histogram.largest_magnitude
    ends = [histogram.range_within(-t, t) for t in (largest * 0.98**k for k in range(376))]
    parameters = [affine_parameters(*each, grid, symmetric=symmetric) for each in ends]
    return range_losses(histogram, parameters, grid, error)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("bits", [8, 2], ids=["8bit", "2bit"])
@pytest.mark.parametrize("error", ERRORS, ids=IDS)
def test_both_ends_are_never_worse_than_one_threshold(name, bits, error):
    histogram, grid = histogram_of(DATA[name]), Grid.unsigned(bits)
    ends = best_range(histogram, grid, error, symmetric=False)
    assert ends[0] <= 0.0 <= ends[1]
    chosen = loss_of(histogram, ends, grid, error)
    best = magnitude_search(histogram, grid, error).min().item()
    assert chosen <= best * (1 + 1e-12) + 1e-14  # The order of a sum depends on the candidates.


# Few values want a scale that meets each of them, finer than any step of a search.
@pytest.mark.parametrize("name", sorted(DATA.keys() - {"two-values", "sparse"}))
@pytest.mark.parametrize("error", ERRORS, ids=IDS)
def test_both_ends_compare_with_an_exhaustive_search(name, error):
    histogram, grid = histogram_of(DATA[name]), Grid.unsigned(4)
    widest = affine_parameters(histogram.lowest, histogram.highest, grid, symmetric=False).scale
    candidates = [
        AffineParameters(widest * 0.95**step, zero_point)
        for step in range(100)
        for zero_point in range(16)
    ]
    ends = best_range(histogram, grid, error, symmetric=False)
    exhaustive = range_losses(histogram, candidates, grid, error).min().item()
    assert loss_of(histogram, ends, grid, error) <= 1.02 * exhaustive + 1e-15


def test_each_end_clips_at_its_own_magnitude():
    histogram = histogram_of(DATA["outliers"])
    error = PowerError(2.0)
    lowest, highest = best_range(histogram, UNSIGNED, error, symmetric=False)
    assert -lowest < highest / 2
    one_threshold = magnitude_search(histogram, UNSIGNED, error).min().item()
    assert loss_of(histogram, (lowest, highest), UNSIGNED, error) < 0.95 * one_threshold


@pytest.mark.parametrize("bits", [8, 6], ids=["8bit", "6bit"])
@pytest.mark.parametrize("error", ERRORS, ids=IDS)
def test_the_short_negative_side_of_silu_is_kept(bits, error):
    values = torch.nn.functional.silu(4 * noise())
    values[:20] = 100.0
    ends = best_range(histogram_of(values), Grid.unsigned(bits), error, symmetric=False)
    step = (ends[1] - ends[0]) / (2**bits - 1)
    assert ends[0] == pytest.approx(-0.2785, abs=0.51 * step)


@pytest.mark.parametrize("error", ERRORS, ids=IDS)
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_one_sided_ranges_stay_one_sided(error, symmetric):
    relu = histogram_of(noise().relu())
    lowest, highest = best_range(relu, UNSIGNED, error, symmetric=symmetric)
    assert lowest == 0.0
    assert 2.5 < highest <= relu.highest
    assert affine_parameters(lowest, highest, UNSIGNED, symmetric=symmetric).zero_point == 0


@pytest.mark.parametrize("error", ERRORS, ids=IDS)
def test_symmetric_search_is_the_best_threshold(error):
    histogram = histogram_of(DATA["skewed"])
    ends = best_range(histogram, UNSIGNED, error, symmetric=True)
    losses = magnitude_search(histogram, UNSIGNED, error, symmetric=True)
    chosen = loss_of(histogram, ends, UNSIGNED, error, symmetric=True)
    assert chosen == pytest.approx(losses.min().item(), rel=1e-12, abs=1e-14)


def test_a_grid_of_16_bits_is_searched_too():
    ends = best_range(histogram_of(noise()), Grid.unsigned(16), PowerError(2.0), symmetric=False)
    assert ends[1] - ends[0] > 6.0
