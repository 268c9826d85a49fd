import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import nn

from repq_fx.reparam import MapError, from_conv, identity, select, stack
from tests.reparam.random_maps import apply, conv_maps

STRIDES = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(st.data(), STRIDES, st.integers(1, 3))
def test_stack_of_maps_is_the_concatenation_of_outputs(data, stride, count):
    maps = [data.draw(conv_maps(4, stride)) for _ in range(count)]
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    image = torch.randn(2, 4, height, width, dtype=torch.float64)
    expected = torch.cat([apply(conv_map, image) for conv_map in maps], 1)
    torch.testing.assert_close(apply(stack(maps), image), expected, rtol=1e-9, atol=1e-9)


@given(st.data(), STRIDES)
def test_selected_channels_are_a_slice_of_the_output(data, stride):
    conv_map = data.draw(conv_maps(4, stride))
    start = data.draw(st.integers(0, conv_map.out_channels - 1))
    end = data.draw(st.integers(start + 1, conv_map.out_channels))
    image = torch.randn(2, 4, 9, 7, dtype=torch.float64)
    expected = apply(conv_map, image)[:, start:end]
    found = apply(select(conv_map, start, end), image)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_maps_without_bias_stay_without():
    assert select(identity(2), 0, 1).bias is None
    assert stack([identity(2), from_conv(nn.Conv2d(2, 3, 3, padding=1, bias=False))]).bias is None


REFUSED = {
    "strides": (nn.Conv2d(2, 2, 3, 2, 1), nn.Conv2d(2, 2, 1), "strides"),
    "inputs": (nn.Conv2d(2, 2, 1), nn.Conv2d(4, 2, 1), "2 and 4 in_channels"),
    "transposed": (nn.Conv2d(2, 2, 1), nn.ConvTranspose2d(2, 2, 1), "a transposed convolution"),
}


@pytest.mark.parametrize(("first", "second", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_geometry_that_differs_is_refused(first, second, reason):
    with pytest.raises(MapError, match=reason):
        stack([from_conv(first), from_conv(second)])
