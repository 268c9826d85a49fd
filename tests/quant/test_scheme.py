"""Schemes: presets and refusals."""

import re
from dataclasses import replace

import pytest
from torch import nn

from repq_fx.quant import KL, CoarseFine, MinMax, Override, PerTensor, Scheme


def test_presets_have_the_bits_of_their_names():
    for scheme, bits in (
        (Scheme.w8a8(), (8, 8)),
        (Scheme.w6a6(), (6, 6)),
        (Scheme.w4a8(), (4, 8)),
        (Scheme.w4a4(), (4, 4)),
    ):
        assert (scheme.weight_bits, scheme.activation_bits) == bits
        assert Scheme.from_name(f"w{bits[0]}a{bits[1]}") == scheme


def test_vanilla_is_per_tensor_min_max():
    assert Scheme.vanilla() == Scheme(
        weight=PerTensor(MinMax()),
        activation=MinMax(),
        equalization=False,
        sequential_ranges=False,
        output_search=False,
        gptq=False,
        bias_correction=False,
    )
    assert Scheme.from_name("vanilla") == Scheme.vanilla()


def test_names_stand_for_schemes():
    assert Scheme.from_name("W6A6") == Scheme.of("w6a6") == Scheme.w6a6()
    assert Scheme.of("Vanilla") == Scheme.vanilla()
    assert Scheme.of(Scheme.w4a8()) == Scheme.w4a8()
    for other in (None, 8, Scheme):
        with pytest.raises(TypeError, match='must be a Scheme or a name such as "w8a8"'):
            Scheme.of(other)


@pytest.mark.parametrize("name", ["int8", "w8", "w8a8x", ""])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="unknown scheme"):
        Scheme.from_name(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_bits": 1}, "weight_bits must be one of .* got 1"),
        ({"weight_bits": 9}, "weight_bits"),
        ({"activation_bits": 16}, "activation_bits must be one of .* got 16"),
    ],
    ids=["one", "nine", "sixteen"],
)
def test_bits_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Scheme(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"activation": "kl"}, {"activation": KL}, {"weight": "cfws"}, {"weight": CoarseFine}],
    ids=["rule-name", "rule-class", "quantizer-name", "quantizer-class"],
)
def test_unknown_observers_are_refused(arguments):
    with pytest.raises(TypeError, match=r"Scheme: .* must be"):
        Scheme(**arguments)


def test_override_targets():
    scheme = Scheme().with_overrides(
        Override("stem", None),
        Override(re.compile("stages"), Scheme.w4a8()),
        Override(nn.Linear, None),
    )
    assert len(scheme.overrides) == 3
    with pytest.raises(TypeError, match="target must be"):
        Override(3, None)
    with pytest.raises(TypeError, match="Override of 'stem': expected a Scheme or None, got 4"):
        Override("stem", 4)


def test_the_faster_scheme_is_faster_everywhere():
    inner = Scheme(weight_bits=5)
    scheme = Scheme(weight_bits=6).with_overrides(Override("a", inner), Override("b", None))
    faster = scheme.faster()
    assert faster.weight_bits == 6
    assert not faster.gptq
    assert not faster.output_search
    quick = replace(inner, gptq=False, output_search=False)
    assert faster.overrides == (Override("a", quick), Override("b", None))
    assert scheme.gptq
    assert scheme.output_search


def test_few_bits_keep_the_rounding_that_they_need():
    assert Scheme.w4a8().faster() == replace(Scheme.w4a8(), output_search=False)
    assert not replace(Scheme.w4a8(), gptq=False).faster().gptq
