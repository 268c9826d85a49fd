"""Range rules against slow, obvious float64 references."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from repq_fx.errors import CalibrationError
from repq_fx.quant import (
    KL,
    MAE,
    MSE,
    Cosine,
    LpLoss,
    MinMax,
    MovingAverageMinMax,
    Percentile,
    RangeRule,
    TensorHistogram,
)
from repq_fx.quant.grid import SMALLEST_SCALE, AffineParameters, Grid, affine_parameters
from repq_fx.quant.ranges.rules import choose_parameters
from repq_fx.quant.ranges.search import PowerError, range_losses

UNSIGNED = Grid.unsigned(8)
RULES = {
    "minmax": MinMax(),
    "moving-average": MovingAverageMinMax(),
    "percentile": Percentile(),
    "mae": MAE(),
    "mse": MSE(),
    "lp": LpLoss(2.4),
    "cosine": Cosine(),
    "kl": KL(),
    "kl-tensorrt": KL.tensorrt(),
    "kl-nvidia": KL.nvidia(),
    "kl-intel": KL.intel(),
    "kl-smoothed": KL.smoothed(),
    "kl-cfws": KL.cfws(),
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def histogram_of(*batches: torch.Tensor, bins: int = 4096) -> TensorHistogram:
    histogram = TensorHistogram(bins)
    for batch in batches:
        histogram.update(batch)
    return histogram


def quantized(values: torch.Tensor, parameters: AffineParameters, grid: Grid) -> torch.Tensor:
    levels = torch.round(values / parameters.scale) + parameters.zero_point
    levels = levels.clamp(grid.quant_min, grid.quant_max)
    return (levels - parameters.zero_point) * parameters.scale


def with_outliers() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(200_000, generator=generator)
    values[:40] = 20 + 40 * torch.rand(40, generator=generator)
    return values


def relu_with_outliers() -> torch.Tensor:
    return with_outliers().relu()


@every_rule
def test_every_rule_is_one(rule):
    assert isinstance(rule, RangeRule)


@pytest.mark.parametrize("power", [1.0, 2.0, 2.4], ids=["mae", "mse", "lp"])
@pytest.mark.parametrize("bits", [8, 4], ids=["8bit", "4bit"])
@pytest.mark.parametrize("kind", ["relu", "signed"])
def test_losses_match_the_errors_of_the_values_themselves(power, bits, kind):
    values = with_outliers() if kind == "signed" else relu_with_outliers()
    grid = Grid.unsigned(bits)
    histogram = histogram_of(values)
    span = histogram.bins_per_side * histogram.width
    candidates = [
        affine_parameters(max(values.min().item(), -t), t, grid, symmetric=False)
        for t in (60.0, 20.0, 5.0, 2.5)
    ]
    losses = range_losses(histogram, candidates, grid, PowerError(power)) * span**power
    for loss, parameters in zip(losses, candidates, strict=True):
        error = (quantized(values.double(), parameters, grid) - values).abs().pow(power)
        assert loss.item() == pytest.approx(error.sum().item(), rel=0.02)


@pytest.mark.parametrize("rule", [MAE(), MSE(), LpLoss(2.4)], ids=["mae", "mse", "lp"])
def test_search_finds_the_best_threshold_of_a_dense_scan(rule):
    values = relu_with_outliers()
    chosen = choose_parameters(rule, histogram_of(values), UNSIGNED, symmetric=False)

    def error_of(parameters: AffineParameters) -> float:
        error = quantized(values.double(), parameters, UNSIGNED) - values
        return error.abs().pow(rule.power).mean().item()

    scan = [
        error_of(affine_parameters(0.0, 60.0 * step / 200, UNSIGNED, symmetric=False))
        for step in range(4, 201, 4)
    ]
    assert error_of(chosen) <= 1.02 * min(scan)


def test_cosine_finds_the_best_threshold_of_a_dense_scan():
    values = relu_with_outliers().double()
    grid = Grid.unsigned(4)
    chosen = choose_parameters(Cosine(), histogram_of(values), grid, symmetric=False)

    def cosine_of(parameters: AffineParameters) -> float:
        seen = quantized(values, parameters, grid)
        return (torch.dot(values, seen) / (values.norm() * seen.norm()).clamp(min=1e-30)).item()

    scan = [
        cosine_of(affine_parameters(0.0, 60.0 * step / 200, grid, symmetric=False))
        for step in range(1, 201)
    ]
    assert 1 - cosine_of(chosen) <= 1.02 * (1 - max(scan))


def test_mae_clips_earlier_than_mse_and_mse_than_min_max():
    histogram = histogram_of(relu_with_outliers())
    thresholds = [
        rule.clip_range(histogram, UNSIGNED, symmetric=False)[1]
        for rule in (MAE(), MSE(), LpLoss(4.0), MinMax())
    ]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[3] / 4


def test_min_max_is_the_exact_range_and_not_a_bin_edge():
    values = torch.tensor([-0.3, 1.7])
    parameters = choose_parameters(MinMax(), histogram_of(values), UNSIGNED, symmetric=False)
    assert parameters.scale == pytest.approx(2.0 / 255, rel=1e-6)
    assert parameters.zero_point == round(0.3 / (2.0 / 255))


RANGES = st.lists(
    st.tuples(st.floats(-5, 5, width=32), st.floats(-5, 5, width=32)), min_size=1, max_size=6
)


@given(RANGES, st.floats(0, 0.99))
@settings(deadline=None, max_examples=100)
def test_moving_average_matches_the_recurrence(batches, momentum):
    lowest, highest = min(batches[0]), max(batches[0])
    for batch in batches[1:]:
        lowest = momentum * lowest + (1 - momentum) * min(batch)
        highest = momentum * highest + (1 - momentum) * max(batch)
    histogram = histogram_of(*(torch.tensor(batch) for batch in batches))
    chosen = MovingAverageMinMax(momentum).clip_range(histogram, UNSIGNED, symmetric=False)
    assert chosen == pytest.approx((min(lowest, 0.0), max(highest, 0.0)), abs=1e-9)


def slow_percentile(values, width, percent, *, tails):
    """Ends of the whole bins that have to stay; `percent` is a number of thousandths."""
    allowed = len(values) * (100_000 - percent)
    threshold = math.inf
    candidates = sorted({(math.floor(abs(v) / width) + 1) * width for v in values}, reverse=True)
    if not tails:
        for candidate in candidates:
            if sum(abs(v) >= candidate for v in values) * 100_000 <= allowed:
                threshold = candidate
        return max(min(values), -threshold), min(max(values), threshold)
    ends = []
    for sign in (-1, 1):
        mirrored = [sign * v for v in values]
        end = max(mirrored)
        for edge in sorted({(math.floor(v / width) + 1) * width for v in mirrored}, reverse=True):
            if sum(v >= edge for v in mirrored) * 200_000 <= allowed:
                end = min(end, edge)
        ends.append(sign * max(end, 0.0))
    return ends[0], ends[1]


@given(
    st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=60),
    st.integers(1, 100_000),
    st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_percentile_matches_the_sorted_values(values, thousandths, symmetric):
    histogram = histogram_of(torch.tensor(values), bins=64)
    # Not on the edge of a bin, where the bin of a value would depend on its sign.
    assume(all((value / histogram.width) % 1 != 0 for value in values))
    tails = not symmetric and min(values) < 0 < max(values)
    expected = slow_percentile(values, histogram.width, thousandths, tails=tails)
    rule = Percentile(thousandths / 1000)
    lowest, highest = rule.clip_range(histogram, UNSIGNED, symmetric=symmetric)
    assert lowest == pytest.approx(min(expected[0], 0.0), abs=1e-12)
    assert highest == pytest.approx(max(expected[1], 0.0), abs=1e-12)


@pytest.mark.parametrize(("percent", "clipped"), [(99.9, 1), (99.99, 0), (99.0, 10), (100.0, 0)])
def test_percentile_counts_exactly(percent, clipped):
    values = torch.arange(1, 1001, dtype=torch.float32)
    _, highest = Percentile(percent).clip_range(histogram_of(values), UNSIGNED, symmetric=False)
    assert (values > highest).sum() == clipped


def test_percentile_of_more_than_32_bits_of_values():
    histogram = histogram_of(torch.tensor([1.0, 50.0]))
    histogram.counts[4096:] *= 2**40
    histogram.update(torch.tensor([60.0]))
    rule = Percentile(100.0 - 1e-9)
    assert rule.clip_range(histogram, UNSIGNED, symmetric=False)[1] < 50.1
    assert MinMax().clip_range(histogram, UNSIGNED, symmetric=False)[1] == 60.0


@pytest.mark.parametrize("rule", [MAE(), MSE(), Cosine()], ids=["mae", "mse", "cosine"])
def test_short_negative_side_is_not_clipped_with_the_long_positive_one(rule):
    values = torch.nn.functional.silu(torch.linspace(-8, 8, 100_000))
    parameters = choose_parameters(rule, histogram_of(values), UNSIGNED, symmetric=False)
    assert parameters.real_range(UNSIGNED)[0] == pytest.approx(values.min().item(), abs=0.04)


@every_rule
@pytest.mark.parametrize(
    ("bits", "symmetric"), [(8, False), (2, True)], ids=["8bit-asymmetric", "2bit-symmetric"]
)
@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(10),
        torch.full((10,), 3.0),
        torch.full((10,), -3.0),
        torch.tensor([1e-40, 0.0]),
        torch.tensor([-1e-45, 1e-45]),
        torch.tensor([1e30, 1e-30]),
        torch.tensor([-1e30, 1e-30, 0.0]),
        torch.tensor([-3.4e38, 3.4e38]),
        torch.tensor([-1e-30] * 5000 + [3.4e38]),
    ],
    ids=["zeros", "constant", "negative", "denormal", "smallest", "wide", "wide-negative",
         "largest", "lonely"],
)  # fmt: skip
def test_degenerate_tensors_get_a_finite_scale(rule, values, bits, symmetric):
    grid = Grid.unsigned(bits)
    histogram = histogram_of(values)
    lowest, highest = rule.clip_range(histogram, grid, symmetric=symmetric)
    assert -math.inf < lowest <= 0.0 <= highest < math.inf
    parameters = choose_parameters(rule, histogram, grid, symmetric=symmetric)
    assert SMALLEST_SCALE <= parameters.scale < math.inf
    assert torch.tensor(parameters.scale).item() == parameters.scale
    assert grid.quant_min <= parameters.zero_point <= grid.quant_max
    if not histogram.is_two_sided and histogram.highest > 0:
        assert parameters.zero_point == 0


@every_rule
def test_growth_by_thirty_decades_across_batches(rule):
    batches = [torch.rand(100) * 1e-30, torch.empty(0), torch.rand(50) * 1e30, torch.zeros(7)]
    histogram = histogram_of(*batches)
    parameters = choose_parameters(rule, histogram, UNSIGNED, symmetric=False)
    assert 1e24 < parameters.scale < 1e28


@pytest.mark.parametrize("rule", [MinMax(), MAE(), KL()], ids=["minmax", "mae", "kl"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_other_float_types_and_strides(rule, dtype):
    values = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = choose_parameters(rule, histogram_of(values.float()), UNSIGNED, symmetric=False)
    strided = values.to(memory_format=torch.channels_last)
    chosen = choose_parameters(rule, histogram_of(strided), UNSIGNED, symmetric=False)
    assert chosen == expected


@every_rule
@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
def test_a_choice_can_be_repeated_and_changes_nothing(rule, symmetric):
    histogram = histogram_of(with_outliers())
    counts, zeros = histogram.counts.clone(), histogram.zeros
    first = choose_parameters(rule, histogram, UNSIGNED, symmetric=symmetric)
    assert choose_parameters(rule, histogram, UNSIGNED, symmetric=symmetric) == first
    assert torch.equal(histogram.counts, counts)
    assert histogram.zeros == zeros


@every_rule
def test_a_tensor_never_seen_is_refused(rule):
    histogram = histogram_of(torch.empty(0))
    with pytest.raises(CalibrationError, match="the tensor was never seen"):
        choose_parameters(rule, histogram, UNSIGNED, symmetric=False)


def test_symmetric_centres_the_zero_point_of_two_sided_data_only():
    two_sided = histogram_of(torch.tensor([-1.0, 4.0]))
    one_sided = histogram_of(torch.tensor([0.0, 4.0]))
    assert choose_parameters(MinMax(), two_sided, UNSIGNED, symmetric=True).zero_point == 128
    assert choose_parameters(MinMax(), one_sided, UNSIGNED, symmetric=True).zero_point == 0


@pytest.mark.parametrize("power", [0, -1.0, 17.0, float("nan")], ids=str)
def test_power_out_of_range(power):
    with pytest.raises(ValueError, match=f"power must be positive and at most 16, got {power}"):
        LpLoss(power)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")], ids=str)
def test_momentum_out_of_range(momentum):
    with pytest.raises(ValueError, match=f"at least 0 and below 1, got {momentum}"):
        MovingAverageMinMax(momentum)


@pytest.mark.parametrize("percent", [0.0, 100.1, float("nan")], ids=str)
def test_percent_out_of_range(percent):
    with pytest.raises(ValueError, match=f"above 0 and at most 100, got {percent}"):
        Percentile(percent)
