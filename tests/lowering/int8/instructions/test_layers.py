"""Integer layers against exact integer arithmetic."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d

from repq_fx.lowering.int8.instructions import (
    Activation,
    ConvolutionGeometry,
    Epilogue,
    Int8Convolution,
    Int8Linear,
    LayerGrids,
    LevelGrid,
)
from repq_fx.ops import has_extension
from repq_fx.quant import QuantizedWeight

from .conftest import assert_contract, levels, program_of

INPUT, ADDEND = LevelGrid(0.03, 114), LevelGrid(0.02, 31)


def weight(*shape, coarse=False):
    values = torch.randint(-127, 128, shape, dtype=torch.int8)
    scale = 1e-4 + 1e-4 * torch.rand(shape[0])
    if not coarse:
        return QuantizedWeight(values, scale, 8)
    centre = torch.randint(-127, 128, (*shape[:2], 1, 1), dtype=torch.int8)
    return QuantizedWeight(values, scale, 8, centre, 10 * scale, 8)


def output_grid(channels_in, zero_point=7, **bounds):
    # About as wide as the sums of so many products.
    return LevelGrid(2e-4 * 70 * 70 * 0.03 * channels_in**0.5 / 40, zero_point, **bounds)


def convolution(
    channels=8, out=16, kernel=3, groups=1, *, split=False, input_grid=INPUT, epilogue=None,
    addend=None, bias=True, **geometry,
):  # fmt: skip
    geometry = {"padding": (kernel // 2, kernel // 2), **geometry}
    fan_in = channels // groups * kernel**2
    grids = LayerGrids(input_grid, epilogue or Epilogue(output_grid(fan_in)), addend)
    return Int8Convolution(
        weight(out, channels // groups, kernel, kernel, coarse=split),
        torch.randn(out) if bias else None,
        grids,
        ConvolutionGeometry(groups=groups, **geometry),
    )


@pytest.mark.parametrize("split", [False, True], ids=["plain", "split"])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"groups": 2}, {"groups": 8}, {"groups": 8, "out": 8}, {"stride": (2, 2)},
        {"dilation": (2, 2), "padding": (2, 2)}, {"kernel": 1}, {"kernel": 5}, {"kernel": 7},
        {"kernel": 1, "padding": (3, 1)},
        {"groups": 8, "out": 8, "stride": (2, 1), "kernel": 5},
        {"groups": 8, "out": 8, "padding": (4, 9)},
        {"stride": (2, 1), "padding": (0, 2)}, {"channels": 3}, {"channels": 6, "groups": 2},
        {"out": 3}, {"out": 70}, {"bias": False}, {"channels": 70, "out": 70, "groups": 70},
        {"input_grid": LevelGrid(0.03, 0)}, {"input_grid": LevelGrid(0.03, 255)},
    ],
    ids=str,
)  # fmt: skip
def test_convolution(options, split, meets_contract):
    layer = convolution(split=split, **options)
    meets_contract(layer, levels(2, options.get("channels", 8), 13, 12))


@pytest.mark.parametrize("groups", [1, 16], ids=["dense", "depthwise"])
@pytest.mark.parametrize("split", [False, True], ids=["plain", "split"])
@pytest.mark.parametrize("activation", list(Activation))
@pytest.mark.parametrize("scaled", [(1.0, 0.0), (1.7, 0.3), (-0.6, -0.2)], ids=str)
def test_what_follows_the_sums(scaled, activation, split, groups, meets_contract):
    grid = output_grid(8 * 9, 40, lowest=2, highest=250)
    epilogue = Epilogue(grid, activation, 0.1, *scaled)
    layer = convolution(
        16, epilogue=epilogue, addend=ADDEND, split=split, groups=groups, stride=(2, 2)
    )
    meets_contract(layer, levels(2, 16, 14, 14), levels(2, 16, 7, 7))


LAYERS = {
    "pointwise": {"kernel": 1}, "dense": {"kernel": 3}, "grouped": {"kernel": 3, "groups": 2},
    "depthwise": {"kernel": 3, "groups": 0},
    "wide_depthwise": {"kernel": 5, "groups": 0, "stride": (2, 2)}, "linear": {},
}  # fmt: skip


def scaled_layer(kind, channels, epilogue, *, split, addend):
    options = LAYERS[kind]
    if kind == "linear":
        grids = LayerGrids(INPUT, epilogue, addend)
        return Int8Linear(weight(channels, 8), torch.randn(channels), grids), levels(3, 5, 8)
    inputs = 8 if options.get("groups", 1) else channels
    groups = options.get("groups", 1) or channels
    options = {**options, "groups": groups if channels % groups == 0 else 1}
    layer = convolution(inputs, channels, epilogue=epilogue, split=split, addend=addend, **options)
    return layer, levels(2, inputs, 9, 9)


def numbers(channels, lowest, highest):
    return tuple((lowest + (highest - lowest) * torch.rand(channels)).tolist())


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(list(LAYERS)), channels=st.sampled_from([1, 3, 16, 17, 70]),
    activation=st.sampled_from(list(Activation)),
    factor=st.sampled_from([1.7, -0.6, (0.3, 3.0), (0.3, 3.0), (-1.0, 2.0)]),
    offset=st.sampled_from([0.0, 0.0, 0.3, (-0.5, 0.5)]),
    split=st.booleans(), adds=st.booleans(), gives_levels=st.booleans(),
)  # fmt: skip
def test_a_factor_and_an_offset_of_each_channel(
    kind, channels, activation, factor, offset, split, adds, gives_levels
):
    grid = output_grid(8 if kind == "linear" else 8 * 9, 40, lowest=2, highest=250)
    scaled = [numbers(channels, *each) if isinstance(each, tuple) else each
              for each in (factor, offset)]  # fmt: skip
    epilogue = Epilogue(grid if gives_levels else None, activation, 0.1, *scaled)
    addend = ADDEND if adds else None
    layer, image = scaled_layer(kind, channels, epilogue, split=split, addend=addend)
    operands = [image, levels(*layer(image).shape)] if adds else [image]
    assert_contract(program_of(layer, inputs=len(operands))(*operands), layer(*operands))


def test_each_channel_has_its_own_factor_and_offset():
    factor, offset = (0.5, 2.0, -1.0), (0.0, 0.25, -3.0)
    plain = convolution(8, 3, epilogue=Epilogue(None, Activation.SILU))
    grids = LayerGrids(INPUT, Epilogue(None, Activation.SILU, 0.0, factor, offset))
    image = levels(2, 8, 5, 5)
    expected = plain(image) * torch.tensor(factor).view(-1, 1, 1)
    expected += torch.tensor(offset).view(-1, 1, 1)
    plain.grids = grids
    assert torch.equal(plain(image), expected)


@pytest.mark.parametrize("groups", [1, 16], ids=["dense", "depthwise"])
@pytest.mark.parametrize("activation", [Activation.SILU, Activation.HARD_SWISH], ids=str)
@pytest.mark.parametrize("factor", [0.0, 1e-30, 2.0**-126, 1e30, -2.0], ids=str)
def test_extreme_factors(factor, activation, groups, meets_contract):
    factors = (factor, 1.0) * 8
    epilogue = Epilogue(output_grid(8 * 9, 40), activation, 0.0, factors)
    meets_contract(convolution(16, groups=groups, epilogue=epilogue), levels(2, 16, 9, 9))


@pytest.mark.parametrize("groups", [1, 16], ids=["dense", "depthwise"])
@pytest.mark.parametrize("bounds", [(0, 0, 63), (9, 9, 15), (128, 128, 255), (255, 0, 255)])
def test_bounds_of_the_output(bounds, groups, meets_contract):
    zero_point, lowest, highest = bounds
    grid = output_grid(16, zero_point, lowest=lowest, highest=highest)
    meets_contract(convolution(16, groups=groups, epilogue=Epilogue(grid)), levels(1, 16, 9, 9))


@pytest.mark.parametrize("groups", [1, 16], ids=["dense", "depthwise"])
@pytest.mark.parametrize("split", [False, True], ids=["plain", "split"])
@pytest.mark.parametrize("scaled", [(1.0, 0.0), (-0.6, 0.3)], ids=str)
def test_float_result(scaled, split, groups, meets_contract):
    epilogue = Epilogue(None, Activation.HARD_SWISH, 0.0, *scaled)
    layer = convolution(16, groups=groups, split=split, epilogue=epilogue)
    meets_contract(layer, levels(2, 16, 9, 9))
    layer = convolution(16, groups=groups, split=split, epilogue=Epilogue())
    meets_contract(layer, levels(2, 16, 9, 9))


def test_definition_is_the_convolution_of_dequantized_tensors():
    layer, image = convolution(split=True, epilogue=Epilogue()), levels(1, 8, 6, 6)
    whole = layer.weight.double() * layer.weight_scale.double().reshape(-1, 1, 1, 1)
    whole[:, :, 1:2, 1:2] += layer.coarse * layer.coarse_scale.double().reshape(-1, 1, 1, 1)
    values = (image.double() - INPUT.zero_point) * INPUT.scale
    expected = conv2d(values, whole, layer.bias.double(), padding=1)
    torch.testing.assert_close(layer(image).double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 70), (2, 3, 70), (1, 70), (0, 70)], ids=str)
@pytest.mark.parametrize("epilogue", [Epilogue(), Epilogue(output_grid(70))], ids=["float", "u8"])
def test_linear(shape, epilogue, meets_contract):
    layer = Int8Linear(weight(10, 70), torch.randn(10), LayerGrids(INPUT, epilogue))
    meets_contract(layer, levels(*shape))


def test_linear_with_an_addend(meets_contract):
    grids = LayerGrids(INPUT, Epilogue(output_grid(8)), ADDEND)
    meets_contract(Int8Linear(weight(8, 8), None, grids), levels(2, 3, 8), levels(2, 3, 8))


def test_extremes_do_not_overflow(meets_contract):
    layer = convolution(512, 16, epilogue=Epilogue(output_grid(512 * 9)))
    layer.weight.fill_(-127)
    layer.grids = LayerGrids(LevelGrid(0.03, 0), layer.grids.epilogue)
    for level in (0, 255):
        meets_contract(layer, torch.full((1, 512, 4, 4), level, dtype=torch.uint8))
    # A scale so small that the steps leave int32.
    layer.grids = LayerGrids(INPUT, Epilogue(LevelGrid(1e-12, 3)))
    meets_contract(layer, levels(1, 512, 4, 4))


@pytest.mark.skipif(not has_extension(), reason="needs the compiled kernels")
@settings(max_examples=150, deadline=None)
@given(
    channels=st.integers(1, 40), out=st.integers(1, 80), depthwise=st.booleans(),
    kernel=st.sampled_from([1, 2, 3, 4, 5, 7]), stride=st.tuples(*[st.integers(1, 3)] * 2),
    padding=st.tuples(*[st.integers(0, 3)] * 2), dilation=st.tuples(*[st.integers(1, 2)] * 2),
    size=st.tuples(st.integers(0, 2), st.integers(13, 20), st.integers(13, 20)),
    split=st.booleans(), threads=st.sampled_from([1, 2]),
)  # fmt: skip
def test_any_geometry(  # noqa: PLR0917
    channels, out, depthwise, kernel, stride, padding, dilation, size, split, threads
):
    out, groups = (channels, channels) if depthwise else (out, 1)
    layer = convolution(
        channels, out, kernel, groups, split=split and kernel % 2 == 1,
        stride=stride, padding=padding, dilation=dilation,
    )  # fmt: skip
    image = levels(size[0], channels, *size[1:])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        result = program_of(layer)(image)
    finally:
        torch.set_num_threads(before)
    assert_contract(result, layer(image))


@pytest.mark.parametrize("number", [-1, 2**16 + 1, 2**31, 2**62, 2**63, 0.5, "1", None])
@pytest.mark.parametrize("name", ["stride", "padding", "dilation"])
def test_geometry_is_bounded(name, number):
    with pytest.raises(ValueError, match=f"expected {name} from . to 65536, got"):
        ConvolutionGeometry(**{name: (1, number)})


@pytest.mark.parametrize("groups", [0, -1, 2**40])
def test_groups_are_bounded(groups):
    with pytest.raises(ValueError, match="expected groups from 1 to 65536"):
        ConvolutionGeometry(groups=groups)
