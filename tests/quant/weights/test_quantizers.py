"""Weight quantizers: formulas of the CFWS paper, bounds, and when a layer is split."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repq_fx.quant import MSE, CoarseFine, MinMax, PerChannel, PerTensor
from repq_fx.quant.grid import SMALLEST_SCALE
from repq_fx.quant.scheme import Scheme
from repq_fx.quant.weights.gptq import InputMoment, compensated_rounding

QUANTIZERS = [PerTensor(), PerChannel(), PerChannel(MinMax()), CoarseFine(),
              CoarseFine(PerTensor())]  # fmt: skip


def rep_like_weight(channels: int = 16, kernel: int = 3) -> torch.Tensor:
    """A merged kernel: small everywhere, with a large diagonal at the centre."""
    generator = torch.Generator().manual_seed(0)
    weight = 0.02 * torch.randn(channels, channels, kernel, kernel, generator=generator)
    weight[:, :, kernel // 2, kernel // 2] += 2.0 * torch.eye(channels)
    return weight


def squared_error(quantizer, weight, bits=8) -> float:
    return (quantizer.quantize(weight, bits).dequantize() - weight).square().mean().item()


def test_split_follows_the_paper_step_by_step():
    weight = rep_like_weight()
    split = CoarseFine(PerChannel(MinMax())).quantize(weight, 8)
    centre = weight[:, :, 1, 1]
    coarse_scale = centre.abs().amax(1, keepdim=True) / 127
    coarse = coarse_scale * torch.round(centre / coarse_scale)
    union = weight.clone()
    union[:, :, 1, 1] = centre - coarse
    fine_scale = union.abs().amax((1, 2, 3)) / 127
    torch.testing.assert_close(split.coarse_scale, coarse_scale[:, 0])
    torch.testing.assert_close(split.scale, fine_scale)
    expected = torch.round(union / fine_scale.reshape(-1, 1, 1, 1))
    assert (split.values - expected).abs().max() <= 1  # One level where 1/scale rounds a tie.
    assert (split.values != expected).float().mean() < 1e-3


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_split_is_much_closer_than_one_grid(kernel):
    weight = rep_like_weight(kernel=kernel)
    assert squared_error(CoarseFine(), weight) < squared_error(PerChannel(), weight) / 20
    assert squared_error(CoarseFine(PerTensor()), weight) < squared_error(PerTensor(), weight) / 20


@pytest.mark.parametrize("groups", [1, 4, 16], ids=["dense", "grouped", "depthwise"])
def test_grouped_weights_are_split_too(groups):
    weight = rep_like_weight()[:, : 16 // groups].contiguous()
    weight[:, 0, 1, 1] += 2.0
    assert CoarseFine(threshold=1.0).quantize(weight, 8).coarse_values is not None


@pytest.mark.parametrize(
    "weight",
    [torch.randn(8, 8, 1, 1), torch.randn(8, 8, 2, 2), torch.randn(8, 8, 1, 3), torch.randn(8, 9)],
    ids=["pointwise", "even", "row", "linear"],
)
def test_kernels_without_a_surround_are_left_whole(weight):
    assert CoarseFine(threshold=0.0).quantize(weight, 8).coarse_values is None


def test_a_layer_that_gains_little_is_left_whole():
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(8, 8, 3, 3, generator=generator) - 0.5
    assert CoarseFine().quantize(uniform, 8).coarse_values is None
    assert CoarseFine().quantize(rep_like_weight(), 8).coarse_values is not None


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_integers_stay_inside_their_grid(quantizer, bits):
    quantized = quantizer.quantize(rep_like_weight(), bits)
    largest = 2 ** (bits - 1) - 1
    for values in (quantized.values, quantized.coarse_values):
        if values is not None:
            assert values.dtype == (torch.int8 if bits <= 8 else torch.int16)
            assert values.abs().max() <= largest
    assert quantized.scale.dtype == torch.float32


@given(st.integers(2, 8), st.floats(1e-24, 1e4), st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_error_is_at_most_half_a_step_without_clipping(bits, magnitude, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = magnitude * torch.randn(4, 3, 3, 3, generator=generator)
    quantized = PerChannel(MinMax()).quantize(weight, bits)
    error = (quantized.dequantize() - weight).abs().amax((1, 2, 3))
    assert (error <= 0.5001 * quantized.scale).all()


def test_searched_scale_is_never_worse_than_min_max():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 8, 3, 3, generator=generator).pow(3)
    for bits in (4, 8):
        assert squared_error(PerChannel(MSE()), weight, bits) <= squared_error(
            PerChannel(MinMax()), weight, bits
        )


def test_dead_channels_stay_finite():
    weight = rep_like_weight()
    weight[0] = 0.0
    weight[1] = 1e-24
    for quantizer in QUANTIZERS:
        quantized = quantizer.quantize(weight, 8)
        assert torch.isfinite(quantized.dequantize()).all()
        assert (quantized.scale > 0).all()
        assert (quantized.dequantize()[0] == 0).all()


def test_quantizing_does_not_change_the_weight():
    weight = rep_like_weight()
    before = weight.clone()
    CoarseFine().quantize(weight, 4)
    assert torch.equal(weight, before)


def test_negative_threshold_is_refused():
    with pytest.raises(ValueError, match="threshold must not be negative, got -1"):
        CoarseFine(threshold=-1)


def test_default_scheme_splits():
    assert isinstance(Scheme().weight, CoarseFine)


def test_parts_may_have_different_widths():
    weight = torch.randn(4, 3, 3, 3)
    quantized = CoarseFine(threshold=0, coarse_bits=3).quantize(weight, 6)
    assert (quantized.bits, quantized.coarse_bits) == (6, 3)
    assert quantized.values.abs().max() <= 31
    assert quantized.coarse_values.abs().max() == 3


def test_whole_kernel_is_a_residual_of_the_whole_kernel():
    weight = torch.randn(4, 3, 3, 3)
    quantized = CoarseFine(PerChannel(MinMax()), threshold=0, whole_kernel=True).quantize(weight, 4)
    coarse = PerChannel(MinMax()).quantize(weight, 4)
    assert torch.equal(quantized.coarse_values, coarse.values)
    assert quantized.coarse_values.shape == weight.shape
    # Half a coarse step is left over, and the fine grid divides that into 7.
    assert (quantized.dequantize() - weight).abs().max() <= coarse.scale.max() / 2 / 7 / 2 * 1.001


@pytest.mark.parametrize("bits", [1, 9, 4.5, "8"])
def test_impossible_coarse_bits_are_refused(bits):
    with pytest.raises(ValueError, match=f"coarse_bits must be 2..8, got {bits!r}"):
        CoarseFine(coarse_bits=bits)


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_a_gain_folds_into_the_scales(quantizer, bits):
    weight = rep_like_weight()
    gain = torch.randn(16)
    gain[:4] = torch.tensor([0.0, -1.0, 1e-30, 1.0])
    quantized = quantizer.quantize(weight, bits)
    scaled = quantized.scaled(gain)
    for values, scale in (("values", "scale"), ("coarse_values", "coarse_scale")):
        before, after = getattr(quantized, values), getattr(scaled, values)
        if before is None:
            assert after is None
            assert getattr(scaled, scale) is None
            continue
        sign = torch.where(gain < 0, -1, 1).reshape(-1, 1, 1, 1)
        assert after.dtype == before.dtype
        assert torch.equal(after.long(), before.long() * sign)
        assert getattr(scaled, scale).shape == (16,)
        assert (getattr(scaled, scale) >= SMALLEST_SCALE).all()
    assert (scaled.bits, scaled.coarse_bits) == (quantized.bits, quantized.coarse_bits)
    expected = quantized.dequantize() * gain.reshape(-1, 1, 1, 1)
    # A gain of 0 leaves the smallest scale.
    least = 2 * SMALLEST_SCALE * 2 ** (bits - 1)
    torch.testing.assert_close(scaled.dequantize(), expected, rtol=1e-6, atol=least)


def test_a_gain_does_not_write_to_the_weight():
    quantized = CoarseFine().quantize(rep_like_weight(), 4)
    values, scale = quantized.values.clone(), quantized.scale.clone()
    quantized.scaled(-torch.ones(16))
    assert torch.equal(quantized.values, values)
    assert torch.equal(quantized.scale, scale)


@pytest.mark.parametrize(
    "make",
    [rep_like_weight, lambda: torch.randn(4, 4, 3, 3).clamp(-1, 1)],
    ids=["surely-split", "surely-whole"],
)
def test_where_the_gain_is_clear_one_candidate_is_rounded_for_the_outputs(make, monkeypatch):
    weight = make()
    layer = torch.nn.Conv2d(*weight.shape[1::-1], 3)
    moment = InputMoment.of(layer, torch.randn(4, weight.shape[1], 9, 9), centered=True)
    both = [CoarseFine(threshold=t).quantize(weight, 8, moment) for t in (0.0, 1e6)]
    calls = []

    def counted(*arguments):
        calls.append(1)
        return compensated_rounding(*arguments)

    monkeypatch.setattr("repq_fx.quant.weights.quantizers.compensated_rounding", counted)
    quantized = CoarseFine().quantize(weight, 8, moment)
    assert len(calls) == 1
    expected = both[0] if quantized.coarse_values is not None else both[1]
    assert torch.equal(quantized.dequantize(), expected.dequantize())


def test_both_candidates_of_a_doubtful_split_share_one_factor(monkeypatch):
    weight = rep_like_weight()
    moment = InputMoment.of(torch.nn.Conv2d(16, 16, 3), torch.randn(4, 16, 9, 9), centered=True)
    monkeypatch.setattr(CoarseFine, "_foretold_gain", lambda self, *_: self.threshold)
    factors = []
    factor = torch.linalg.cholesky_ex
    monkeypatch.setattr(torch.linalg, "cholesky_ex", lambda m: factors.append(1) or factor(m))
    assert CoarseFine().quantize(weight, 8, moment).coarse_values is not None
    assert len(factors) == 1
