"""A layer whose rounding, gain and shift are learned, against the layer it is converted to."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repq_fx.learn.layer import LearnedLayer
from repq_fx.quant import CoarseFine, MinMax, PerChannel, PerTensor

LAYERS = {
    "conv": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 7, 7)),
    "no-bias": (lambda: nn.Conv2d(4, 6, 3, bias=False), (2, 4, 7, 7)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), (2, 4, 7, 7)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 5, padding=2, groups=4), (2, 4, 7, 7)),
    "dilated": (lambda: nn.Conv2d(4, 6, 3, dilation=2), (2, 4, 7, 7)),
    "reflect": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 7, 7)),
    "same": (lambda: nn.Conv2d(4, 6, (3, 5), padding="same"), (2, 4, 7, 7)),
    "pointwise": (lambda: nn.Conv2d(4, 6, 1), (2, 4, 7, 7)),
    "linear": (lambda: nn.Linear(5, 6), (2, 3, 5)),
}
QUANTIZERS = {
    "tensor": PerTensor(),
    "channel": PerChannel(),
    "split": CoarseFine(threshold=0),
    "split-tensor": CoarseFine(PerTensor(MinMax()), threshold=0),
    "whole-split": CoarseFine(threshold=0, whole_kernel=True, coarse_bits=3),
}
each_layer = pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)
each_quantizer = pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=QUANTIZERS)


def learned_layer(make, quantizer, bits=4, *, rounds_coarse=False, magnitude=0.7):
    layer = make()
    quantized = quantizer.quantize(layer.weight, bits)
    learned = LearnedLayer(
        layer, quantized, layer.bias, torch.tensor(magnitude), rounds_coarse=rounds_coarse
    )
    return layer, quantized, learned


def run(layer, data, weight, bias):
    """`layer` with another weight, in double precision."""
    if isinstance(layer, nn.Linear):
        return F.linear(data.double(), weight.double(), None if bias is None else bias.double())
    return layer._conv_forward(
        data.double(), weight.double(), None if bias is None else bias.double()
    )


def randomize(learned):
    """Decide the rounding at random, and draw gains (negative and zero too) and shifts."""
    with torch.no_grad():
        for name, parameter in learned.named_parameters():
            if name.endswith("logits"):
                parameter.copy_(9 * torch.where(torch.rand_like(parameter) < 0.5, 1.0, -1.0))
        learned.gain.normal_()
        learned.gain[1] = 0
        learned.gain[2] = -1.5
        learned.shift.normal_()


@each_layer
@each_quantizer
@pytest.mark.parametrize("rounds_coarse", [False, True])
def test_at_the_start_it_is_the_quantized_layer(make, shape, quantizer, rounds_coarse):
    layer, quantized, learned = learned_layer(make, quantizer, rounds_coarse=rounds_coarse)
    data = torch.randn(shape)
    found, bias = learned.result()
    for name in ("values", "scale", "coarse_values", "coarse_scale"):
        given_part, part = getattr(quantized, name), getattr(found, name)
        assert (given_part is None) == (part is None)
        if part is not None:
            assert torch.equal(part, given_part)
            assert part.dtype == given_part.dtype
    assert (found.bits, found.coarse_bits) == (quantized.bits, quantized.coarse_bits)
    assert (bias is None) == (layer.bias is None)
    learned.is_hard = True
    expected = run(layer, data, quantized.dequantize(), layer.bias)
    torch.testing.assert_close(learned(data).double(), expected, rtol=1e-5, atol=1e-5)


@each_layer
@each_quantizer
@pytest.mark.parametrize("rounds_coarse", [False, True])
def test_the_result_folds_gain_and_shift(make, shape, quantizer, rounds_coarse):
    layer, quantized, learned = learned_layer(make, quantizer, rounds_coarse=rounds_coarse)
    data = torch.randn(shape)
    randomize(learned)
    decided, _ = learned.result()
    gain, shift = learned.gain.detach().double(), learned.shift.detach().double()
    sign = torch.where(gain < 0, -1, 1)
    rows = (-1, *[1] * (layer.weight.dim() - 1))
    assert torch.equal(decided.values * sign.reshape(rows), learned.fine.integers().long())
    levels = decided.values.abs().max()
    assert levels <= 7
    plain = learned.fine.integers().double() * quantized.scale.double().reshape(rows)
    if quantized.coarse_values is not None:
        coarse = quantized.coarse_values.double()
        if rounds_coarse:
            coarse = learned.coarse.integers().double()
        assert torch.equal(decided.coarse_values * sign.reshape(rows), coarse.long())
        coarse = coarse * quantized.coarse_scale.double().reshape(rows)
        pad = [side // 2 for side in layer.weight.shape[:1:-1] for _ in range(2)]
        plain = plain + (coarse if coarse.shape == plain.shape else F.pad(coarse, pad))
    channels = (-1, *[1] * (len(shape) - 2)) if isinstance(layer, nn.Conv2d) else (-1,)
    expected = run(layer, data, plain, layer.bias) * gain.reshape(channels)
    expected = expected + (0.7 * shift).reshape(channels)
    weight, bias = learned.result()
    torch.testing.assert_close(
        run(layer, data, weight.dequantize(), bias), expected, rtol=1e-5, atol=1e-5
    )
    with torch.no_grad():
        soft = learned(data)
        learned.is_hard = True
        hard = learned(data)
    torch.testing.assert_close(soft.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(hard.double(), expected, rtol=1e-4, atol=1e-5)


@each_quantizer
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_soft_weight_is_near_the_float_one(bits, quantizer):
    """Before learning, as near as its two levels allow, but for 2 % of a level at their ends."""
    layer, quantized, learned = learned_layer(LAYERS["conv"][0], quantizer, bits)
    with torch.no_grad():
        fine, _ = learned.fine(None)
    step = quantized.scale.reshape(-1, 1, 1, 1)
    soft = ((fine + learned.coarse_weight - layer.weight) / step).abs()
    hard = ((quantized.dequantize() - layer.weight) / step).abs()
    assert (soft <= hard + 0.021).all()
    assert soft.mean() < hard.mean()


def test_sixteen_bits_keep_their_integers():
    _, quantized, learned = learned_layer(LAYERS["conv"][0], PerChannel(), 16)
    found, _ = learned.result()
    assert found.values.dtype == torch.int16
    assert torch.equal(found.values, quantized.values)


def test_a_shift_makes_a_bias():
    _, _, learned = learned_layer(LAYERS["no-bias"][0], PerChannel())
    with torch.no_grad():
        learned.shift[3] = 2.0
    _, bias = learned.result()
    torch.testing.assert_close(bias, 1.4 * F.one_hot(torch.tensor(3), 6).float())


def test_gradients_reach_all_that_is_learned_and_nothing_else():
    layer, _, learned = learned_layer(
        LAYERS["conv"][0], CoarseFine(threshold=0), rounds_coarse=True
    )
    learned.beta = 4.0
    data = torch.randn(LAYERS["conv"][1])
    (learned(data).square().mean() + learned.regularizer).backward()
    assert {name for name, _ in learned.named_parameters()} == {
        "fine.logits", "coarse.logits", "gain", "shift",
    }  # fmt: skip
    assert all(p.grad.abs().sum() > 0 for p in learned.parameters())
    assert layer.weight.grad is None


def test_the_regularizer_is_of_both_parts():
    _, _, learned = learned_layer(LAYERS["conv"][0], CoarseFine(threshold=0), rounds_coarse=True)
    learned.beta = 3.0
    learned(torch.randn(LAYERS["conv"][1]))
    expected = learned.fine(3.0)[1] + learned.coarse(3.0)[1]
    torch.testing.assert_close(learned.regularizer, expected)


@pytest.mark.parametrize("quantizer", [PerChannel(), CoarseFine(threshold=0)], ids=str)
def test_the_coarse_part_is_fixed_unless_asked_for(quantizer):
    _, _, learned = learned_layer(LAYERS["conv"][0], quantizer)
    assert learned.coarse is None
