"""GPTQ rounding and refitting against slow references and what they promise."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from repq_fx import CalibrationError, CoarseFine, MinMax, PerChannel, PerTensor
from repq_fx.quant.grid import Grid
from repq_fx.quant.weights.gptq import InputMoment, _product, compensated_rounding

LAYERS = {
    "pointwise": (lambda: nn.Conv2d(6, 4, 1), (5, 6, 7, 7)),
    "dense": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (5, 3, 9, 9)),
    "dilated": (lambda: nn.Conv2d(3, 4, (3, 1), padding=(2, 0), dilation=2), (5, 3, 9, 9)),
    "depthwise": (lambda: nn.Conv2d(6, 6, 3, padding=1, groups=6), (5, 6, 7, 7)),
    "grouped": (lambda: nn.Conv2d(6, 4, 3, groups=2), (5, 6, 7, 7)),
    "same": (lambda: nn.Conv2d(3, 4, (3, 5), padding="same"), (5, 3, 7, 7)),
    "reflect": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (5, 3, 7, 7)),
    "linear": (lambda: nn.Linear(6, 4), (9, 6)),
    "tokens": (lambda: nn.Linear(6, 4), (3, 9, 6)),
}


def correlated(shape, seed=0):
    torch.manual_seed(seed)
    data = torch.randn(shape)
    for dim in (1, -1):
        data = data + 2 * data.roll(1, dims=dim)
    return data


def output_error(layer, weight, data, *, centered):
    """Squared difference of the outputs of two weights, the slow way: by running both."""
    with torch.no_grad():
        expected = layer(data)
        layer.weight.copy_(weight)
        error = (layer(data) - expected).double()
    channel = 1 if isinstance(layer, nn.Conv2d) else -1
    rows = error.movedim(channel, 0).flatten(1)
    if centered:
        rows = rows - rows.mean(1, keepdim=True)
    return rows.square().mean(1).sum()


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize(("make_layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_the_moment_foretells_the_output_error(make_layer, shape, centered):
    data = correlated(shape)
    layer = make_layer()
    weight = layer.weight.detach() + 0.1 * torch.randn_like(layer.weight)
    moment = InputMoment.of(layer, data, centered=centered)
    foretold = moment.output_error(weight - layer.weight.detach())
    assert foretold.item() == pytest.approx(
        output_error(layer, weight, data, centered=centered).item(), rel=1e-4
    )


@pytest.mark.parametrize(("make_layer", "shape"), LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("quantizer", [PerTensor(), PerChannel(), CoarseFine(threshold=0)], ids=str)
def test_outputs_are_nearer_than_by_rounding_to_nearest(make_layer, shape, quantizer):
    data = correlated(shape)
    layer = make_layer()
    weight = layer.weight.detach()
    moment = InputMoment.of(layer, data, centered=False)
    nearest = quantizer.quantize(weight, 3).dequantize()
    compensated = quantizer.quantize(weight, 3, moment)
    assert compensated.values.is_contiguous()  # As files want it.
    assert compensated.values.abs().max() <= 3
    error = moment.output_error(compensated.dequantize() - weight)
    assert error < moment.output_error(nearest - weight)


def column_by_column(row, moment, scale, largest):
    """The recursion of optimal brain quantization: fix one weight, update all the others."""
    remaining = sorted(range(len(row)), key=lambda i: -moment[i, i].item())
    damped = moment + 0.01 * moment.diagonal().mean() * torch.eye(len(row)).double()
    row, integers = row.clone(), torch.empty_like(row)
    while remaining:
        inverse = torch.linalg.inv(damped[remaining][:, remaining])
        first = remaining[0]
        integers[first] = torch.round(row[first] / scale).clamp(-largest, largest)
        error = row[first] - integers[first] * scale
        row[remaining] -= error / inverse[0, 0] * inverse[0]
        remaining = remaining[1:]
    return integers


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 160), bits=st.integers(2, 8), seed=st.integers(0, 1000))
def test_the_cholesky_form_is_the_recursion(size, bits, seed):
    torch.manual_seed(seed)
    layer = nn.Linear(size, 2)
    data = correlated((2 * size, size), seed) if size > 1 else torch.randn(3, 1)
    moment = InputMoment.of(layer, data, centered=False)
    weight = layer.weight.detach()
    grid = Grid.symmetric(bits)
    scale = weight.abs().amax(1) / grid.quant_max
    actual = compensated_rounding(weight, scale, torch.zeros_like(weight), grid, moment)
    for row, step, integers in zip(weight.double(), scale.double(), actual, strict=True):
        expected = column_by_column(row, moment.values[0], step, grid.quant_max)
        assert torch.equal(integers.double(), expected)


def test_inputs_that_are_always_zero_do_not_stretch_the_range():
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.1, -0.2, 0.3, 1000.0]]))
    data = torch.randn(64, 4)
    data[:, 3] = 0
    moment = InputMoment.of(layer, data, centered=False)
    quantized = PerChannel(MinMax()).quantize(layer.weight.detach(), 8, moment)
    assert quantized.scale.item() == pytest.approx(0.3 / 127)
    assert quantized.values[0, 3] == 127


@pytest.mark.parametrize(("make_layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_layers_that_see_nothing_stay_finite(make_layer, shape):
    layer = make_layer()
    data = torch.zeros(shape)
    moment = InputMoment.of(layer, data, data, centered=True)
    weight = moment.refit(layer.weight.detach())
    assert torch.isfinite(PerChannel().quantize(weight, 4, moment).dequantize()).all()


def test_refitting_repairs_what_the_inputs_lost():
    torch.manual_seed(0)
    layer = nn.Linear(8, 5, bias=False)
    exact = torch.randn(400, 8)
    arriving = exact @ (torch.eye(8) + 0.2 * torch.randn(8, 8))
    moment = InputMoment.of(layer, arriving, exact, centered=False)
    weight = layer.weight.detach()
    before = (arriving @ weight.T - exact @ weight.T).square().mean()
    after = (arriving @ moment.refit(weight).T - exact @ weight.T).square().mean()
    assert after < 0.2 * before


def test_too_few_positions_refit_nothing():
    layer = nn.Linear(8, 5)
    data = torch.randn(31, 8)
    moment = InputMoment.of(layer, data, torch.randn(31, 8), centered=False)
    assert torch.equal(moment.refit(layer.weight), layer.weight)


def test_a_large_offset_leaves_the_covariance_exact():
    torch.manual_seed(0)
    data = 1000 + torch.randn(400, 16)
    moment = InputMoment.of(nn.Linear(16, 4), data, centered=True)
    torch.testing.assert_close(
        moment.values[0], data.double().T.cov(correction=0), rtol=1e-4, atol=1e-4
    )


def test_inputs_that_never_vary_still_bound_the_range():
    """Centered they have no variance, but other data may differ; only zeros may be clipped."""
    layer = nn.Linear(3, 1)
    weight = torch.tensor([[0.1, -5.0, 100.0]])
    data = torch.cat([torch.randn(64, 1), torch.ones(64, 1), torch.zeros(64, 1)], 1)
    moment = InputMoment.of(layer, data, centered=True)
    assert PerChannel(MinMax()).quantize(weight, 8, moment).scale.item() == pytest.approx(5 / 127)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("exponent", [-100, 60, 115])
def test_moments_have_no_unit(exponent, centered):
    data = correlated((5, 3, 9, 9))
    layer = nn.Conv2d(3, 4, 3)
    moment = InputMoment.of(layer, data, centered=centered)
    scaled = InputMoment.of(layer, data * 2.0**exponent, centered=centered)
    assert torch.equal(scaled.values, moment.values * 4.0**exponent)
    weights = [PerChannel().quantize(layer.weight, 4, each) for each in (moment, scaled)]
    assert torch.equal(weights[0].values, weights[1].values)


def test_an_infinite_input_is_refused():
    data = correlated((5, 3, 9, 9))
    data[0, 0, 0, 0] = torch.inf
    with pytest.raises(CalibrationError, match="holds NaN or infinite"):
        InputMoment.of(nn.Conv2d(3, 4, 3), data, centered=True)


def test_a_product_with_itself_by_blocks_is_the_whole_product():
    torch.manual_seed(0)
    entries = torch.randn(2, 1100, 40)
    expected = entries @ entries.mT
    torch.testing.assert_close(_product(entries, entries), expected, rtol=1e-5, atol=1e-4)
