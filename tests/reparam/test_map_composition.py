from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from repq_fx.reparam import MapError, average, compose, from_conv, identity, pad
from tests.reparam.random_maps import apply, conv_maps

STRIDES = st.tuples(st.integers(1, 3), st.integers(1, 2))
SIZES = st.tuples(st.integers(9, 14), st.integers(9, 14))


def unpadded(conv_map):
    return replace(conv_map, padding=((0, 0),) * conv_map.spatial_dims)


def check(second, first, image):
    expected = apply(second, apply(first, image))
    torch.testing.assert_close(apply(compose(second, first), image), expected, rtol=1e-9, atol=1e-9)


@given(st.data(), st.sampled_from([(4, 4), (4, 8), (8, 4), (6, 12)]), STRIDES, STRIDES, SIZES)
def test_unpadded_map_after_any_map(data, channels, first_stride, second_stride, size):
    inputs, outputs = channels
    first = data.draw(conv_maps(inputs, first_stride, outputs))
    second = unpadded(data.draw(conv_maps(outputs, second_stride, inputs)))
    # Large enough for every kernel that can be drawn.
    image = torch.randn(2, inputs, size[0] * 5, size[1] * 4, dtype=torch.float64)
    check(second, first, image)


@given(st.data(), STRIDES, STRIDES, SIZES)
def test_padded_map_after_a_pointwise_map_without_bias(data, first_stride, second_stride, size):
    first = unpadded(data.draw(conv_maps(4, first_stride)))
    first = replace(first, kernel=first.kernel[:, :, :1, :1], dilation=(1, 1), bias=None)
    second = data.draw(conv_maps(4, second_stride))
    check(second, first, torch.randn(1, 4, *size, dtype=torch.float64))


@given(st.data(), SIZES)
def test_cropping_is_exact_after_any_map(data, size):
    first = data.draw(conv_maps(4, (1, 1)))
    crop = pad(identity(4), ((-1, -2), (0, -1)))
    check(crop, first, torch.randn(1, 4, *size, dtype=torch.float64))


def test_kernels_across_different_axes_keep_their_padding():
    rows = from_conv(nn.Conv2d(3, 3, (3, 1), padding=(1, 0), bias=False).double())
    columns = from_conv(nn.Conv2d(3, 3, (1, 5), padding=(0, 2)).double())
    check(columns, rows, torch.randn(2, 3, 6, 7, dtype=torch.float64))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_other_padding_modes_commute_with_pointwise_maps(mode):
    first = from_conv(nn.Conv2d(3, 4, 1).double())
    second = from_conv(nn.Conv2d(4, 2, 3, padding=1, padding_mode=mode).double())
    check(second, first, torch.randn(2, 3, 6, 7, dtype=torch.float64))


def test_three_axes():
    first = from_conv(nn.Conv3d(2, 4, 1, groups=2, bias=False).double())
    second = from_conv(nn.Conv3d(4, 2, 3, padding=1, groups=2).double())
    check(second, first, torch.randn(1, 2, 4, 5, 3, dtype=torch.float64))


def test_padding_by_its_own_value_at_zero_is_exact():
    first = from_conv(nn.Conv2d(3, 4, 1).double())
    image = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    inner = apply(first, image)
    border = first.bias.reshape(1, -1, 1, 1).expand(2, 4, 7, 8).clone()
    border[:, :, 1:-1, 1:-1] = inner
    padded = pad(first, ((1, 1), (1, 1)))
    torch.testing.assert_close(apply(padded, image), border)
    pooled = compose(average(4, (3, 3), (1, 1), (0, 0)), padded)
    expected = nn.functional.avg_pool2d(border, 3, 1)
    torch.testing.assert_close(apply(pooled, image), expected)


@given(st.data(), SIZES)
def test_average_counts_the_border(data, size):
    taps, stride = (data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5))) for _ in range(2))
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in taps)
    divisor = data.draw(st.none() | st.integers(1, 9))
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    pool = nn.functional.avg_pool2d
    expected = pool(image, taps, stride, padding, divisor_override=divisor)
    pooled = average(3, taps, stride, padding, divisor)
    torch.testing.assert_close(apply(pooled, image), expected)


@given(st.data(), STRIDES, SIZES)
def test_padding_before_any_map(data, stride, size):
    sides = data.draw(st.tuples(*[st.tuples(st.integers(-2, 3), st.integers(-2, 3))] * 2))
    padded = pad(identity(4), sides)
    second = data.draw(conv_maps(4, stride))
    if min(map(min, sides)) < 0:
        second = unpadded(second)  # what was cropped would come back as zeros
    check(second, padded, torch.randn(1, 4, size[0] + 9, size[1] + 9, dtype=torch.float64))


@given(st.data(), SIZES)
def test_padding_by_the_value_at_zero(data, size):
    first = unpadded(data.draw(conv_maps(4, (1, 1))))
    first = replace(first, kernel=first.kernel[:, :, :1, :1], dilation=(1, 1))
    sides = data.draw(st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2))
    image = torch.randn(2, 4, *size, dtype=torch.float64)
    (top, bottom), (left, right) = sides
    wide = nn.functional.pad(image, (left, right, top, bottom))
    torch.testing.assert_close(apply(pad(first, sides), image), apply(first, wide))


def test_depthwise_after_dense_stays_small():
    first, second = from_conv(nn.Conv2d(8, 8, 1)), from_conv(nn.Conv2d(8, 8, 3, groups=8))
    assert compose(second, first).kernel.shape == (8, 8, 3, 3)
    depthwise = from_conv(nn.Conv2d(8, 8, 3, groups=8, bias=False))
    assert compose(second, depthwise).kernel.shape == (8, 1, 5, 5)


REFUSED = {
    "border": (nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), "border differs"),
    "bias": (nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, padding=1), "zeros after a bias"),
    "stride": (
        nn.Conv2d(2, 2, 1, stride=2, bias=False),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
        "reflect after a stride",
    ),
    "modes": (
        nn.Conv2d(2, 2, (3, 1), padding=(1, 0), bias=False),
        nn.Conv2d(2, 2, (1, 3), padding=(0, 1), padding_mode="circular"),
        "pad with zeros and circular",
    ),
    "transposed": (nn.ConvTranspose2d(2, 2, 3), nn.Conv2d(2, 2, 1), "transposed"),
    "channels": (nn.Conv2d(2, 3, 1), nn.Conv2d(2, 2, 1), "3 channels meet 2"),
}


@pytest.mark.parametrize(("first", "second", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_inexact_chains_are_refused(first, second, reason):
    with pytest.raises(MapError, match=reason):
        compose(from_conv(second), from_conv(first))


@pytest.mark.parametrize(
    ("conv", "reason"),
    [
        (nn.Conv2d(2, 2, 3), "not pointwise"),
        (nn.Conv2d(2, 2, 1, stride=2), "not pointwise"),
        (nn.ConvTranspose2d(2, 2, 1), "transposed"),
    ],
    ids=["kernel", "stride", "transposed"],
)
def test_padding_of_other_maps_is_refused(conv, reason):
    with pytest.raises(MapError, match=reason):
        pad(from_conv(conv), ((1, 1), (1, 1)))
