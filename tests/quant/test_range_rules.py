"""Range rules against slow, obvious float64 references."""

import pytest
import torch

from repq_fx.quant import MAE, MSE, MinMax, TensorHistogram
from repq_fx.quant.grid import AffineParameters, Grid, affine_parameters
from repq_fx.quant.range_rules import LpLoss, choose_parameters, quantization_losses

UNSIGNED = Grid.unsigned(8)


def histogram_of(values: torch.Tensor) -> TensorHistogram:
    histogram = TensorHistogram()
    histogram.update(values)
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


@pytest.mark.parametrize("power", [1.0, 2.0, 2.4], ids=["mae", "mse", "lp"])
@pytest.mark.parametrize("bits", [8, 4], ids=["8bit", "4bit"])
@pytest.mark.parametrize("signed", [False, True], ids=["relu", "signed"])
def test_losses_match_the_errors_of_the_values_themselves(power, bits, signed):
    # Without the spike of exact zeros behind a ReLU, which the loss spreads over its bin.
    values = with_outliers() if signed else with_outliers().abs()
    grid = Grid.unsigned(bits)
    histogram = histogram_of(values)
    candidates = [
        affine_parameters(max(values.min().item(), -t), t, grid, symmetric=False)
        for t in (60.0, 20.0, 5.0, 2.5)
    ]
    losses = quantization_losses(histogram, candidates, grid, power)
    for loss, parameters in zip(losses, candidates, strict=True):
        error = (quantized(values.double(), parameters, grid) - values).abs().pow(power)
        if not signed:
            error = error[values > 0]  # The zeros are exact; their bin is spread over its width.
        assert loss.item() == pytest.approx(error.sum().item(), rel=0.02)


@pytest.mark.parametrize("rule", [MAE(), MSE()], ids=["mae", "mse"])
def test_search_finds_the_best_threshold_of_a_dense_scan(rule):
    values = relu_with_outliers()
    chosen = choose_parameters(rule, histogram_of(values), UNSIGNED, symmetric=False)

    def error_of(parameters: AffineParameters) -> float:
        return (
            (quantized(values.double(), parameters, UNSIGNED) - values)
            .abs()
            .pow(rule.power)
            .mean()
            .item()
        )

    scan = [
        error_of(affine_parameters(0.0, 60.0 * step / 200, UNSIGNED, symmetric=False))
        for step in range(4, 201, 4)
    ]
    assert error_of(chosen) <= 1.02 * min(scan)


def test_mae_clips_earlier_than_mse_and_mse_than_min_max():
    histogram = histogram_of(relu_with_outliers())
    thresholds = [
        rule.threshold(histogram, UNSIGNED, symmetric=False) for rule in (MAE(), MSE(), MinMax())
    ]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[2] / 4


def test_min_max_is_the_exact_range_and_not_a_bin_edge():
    values = torch.tensor([-0.3, 1.7])
    parameters = choose_parameters(MinMax(), histogram_of(values), UNSIGNED, symmetric=False)
    assert parameters.scale == pytest.approx(2.0 / 255, rel=1e-6)
    assert parameters.zero_point == round(0.3 / (2.0 / 255))


def test_short_negative_side_is_not_clipped_with_the_long_positive_one():
    values = torch.nn.functional.silu(torch.linspace(-8, 8, 100_000))
    parameters = choose_parameters(MAE(), histogram_of(values), UNSIGNED, symmetric=False)
    assert parameters.real_range(UNSIGNED)[0] == pytest.approx(values.min().item(), abs=0.04)


@pytest.mark.parametrize("rule", [MinMax(), MAE(), MSE()], ids=["minmax", "mae", "mse"])
@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(10),
        torch.full((10,), 3.0),
        torch.full((10,), -3.0),
        torch.tensor([1e-40, 0.0]),
        torch.tensor([1e30, 1e-30]),
        torch.tensor([-3e38, 3e38]),
    ],
    ids=["zeros", "constant", "negative", "denormal", "wide", "largest"],
)
def test_degenerate_tensors_get_a_finite_scale(rule, values):
    parameters = choose_parameters(rule, histogram_of(values), UNSIGNED, symmetric=False)
    assert 0 < parameters.scale < float("inf")
    assert 0 <= parameters.zero_point <= 255


def test_symmetric_centres_the_zero_point_of_two_sided_data_only():
    two_sided = histogram_of(torch.tensor([-1.0, 4.0]))
    one_sided = histogram_of(torch.tensor([0.0, 4.0]))
    assert choose_parameters(MinMax(), two_sided, UNSIGNED, symmetric=True).zero_point == 128
    assert choose_parameters(MinMax(), one_sided, UNSIGNED, symmetric=True).zero_point == 0


def test_power_must_be_positive():
    with pytest.raises(ValueError, match="power must be positive, got 0"):
        LpLoss(0)
