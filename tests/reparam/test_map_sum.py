from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given
from torch import nn

from repq_fx.reparam import MapError, add, average, from_conv, identity, regroup, to_conv
from tests.reparam.random_maps import apply, conv_maps

STRIDES = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(st.data(), st.sampled_from([4, 6, 12]), STRIDES)
def test_sum_of_maps_is_the_sum_of_outputs(data, channels, stride):
    first, second = (data.draw(conv_maps(channels, stride)) for _ in range(2))
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    image = torch.randn(2, channels, height, width, dtype=torch.float64)
    expected = apply(first, image) + apply(second, image)
    torch.testing.assert_close(apply(add(first, second), image), expected, rtol=1e-9, atol=1e-9)


@given(st.data(), STRIDES)
def test_sum_does_not_depend_on_order(data, stride):
    first, second = (data.draw(conv_maps(4, stride)) for _ in range(2))
    forward, backward = add(first, second), add(second, first)
    torch.testing.assert_close(forward.kernel, backward.kernel, rtol=0, atol=0)
    for name in ("padding", "dilation", "groups"):
        assert getattr(forward, name) == getattr(backward, name)


@given(st.data(), st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_regrouped_map_computes_the_same(data, groups):
    conv_map = data.draw(conv_maps(12, (1, 1)))
    assume(conv_map.groups % groups == 0)
    image = torch.randn(1, 12, 6, 5, dtype=torch.float64)
    wide = regroup(conv_map, groups)
    assert wide.groups == groups
    torch.testing.assert_close(apply(wide, image), apply(conv_map, image), rtol=1e-9, atol=1e-9)


def test_regroup_with_a_channel_multiplier():
    conv_map = from_conv(nn.Conv2d(4, 8, 3, groups=4))
    image = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(apply(regroup(conv_map, 2), image), apply(conv_map, image))


def test_regroup_into_more_groups_is_refused():
    with pytest.raises(MapError, match="4 groups cannot be joined into 8"):
        regroup(identity(4), 8)


@pytest.mark.parametrize("groups", [1, 2, 4, 8], ids=["dense", "two", "four", "depthwise"])
def test_identity_takes_the_groups_of_the_convolution(groups):
    conv = nn.Conv2d(8, 8, 3, padding=1, groups=groups)
    total = add(from_conv(conv), identity(8))
    assert total.groups == groups
    assert total.kernel.shape == conv.weight.shape


def test_different_groups_meet_at_the_common_divisor():
    maps = [from_conv(nn.Conv2d(12, 12, 1, groups=groups)) for groups in (4, 6)]
    assert add(*maps).groups == 2


def test_equal_dilations_stay_sparse():
    first = from_conv(nn.Conv2d(2, 2, 3, padding=2, dilation=2))
    total = add(first, identity(2))
    assert (total.taps, total.dilation) == ((3, 3), (2, 2))


def test_different_dilations_become_dense_only_as_far_as_needed():
    first = from_conv(nn.Conv2d(2, 2, 3, padding=2, dilation=2))
    second = from_conv(nn.Conv2d(2, 2, 3, padding=4, dilation=4))
    assert (add(first, second).taps, add(first, second).dilation) == ((5, 5), (2, 2))


def test_crossed_kernels_need_their_common_square():
    first = from_conv(nn.Conv2d(2, 2, (3, 1), padding=(1, 0)))
    second = from_conv(nn.Conv2d(2, 2, (1, 3), padding=(0, 1)))
    total = add(first, second)
    assert (total.taps, total.padding) == ((3, 3), ((1, 1), (1, 1)))


def test_padding_modes_agree_with_unpadded_branches():
    reflect = from_conv(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"))
    assert add(reflect, identity(2)).padding_mode == "reflect"


REFUSED = {
    "strides": (nn.Conv2d(2, 2, 3, padding=1, stride=2), nn.Conv2d(2, 2, 1), "strides"),
    "heights": (
        nn.Conv2d(2, 2, (3, 1)),
        nn.Conv2d(2, 2, 1),
        "outputs of different sizes along axis 2",
    ),
    "widths": (
        nn.Conv2d(2, 2, (1, 3)),
        nn.Conv2d(2, 2, 1),
        "outputs of different sizes along axis 3",
    ),
    "out_channels": (nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 1), "2 and 1 out_channels"),
    "in_channels": (nn.Conv2d(2, 2, 1), nn.Conv2d(1, 2, 1), "2 and 1 in_channels"),
    "padding_modes": (
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 2, 3, padding=1),
        "pad with reflect and zeros",
    ),
}


@pytest.mark.parametrize(("first", "second", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_geometry_that_differs_is_refused(first, second, reason):
    with pytest.raises(MapError, match=reason):
        add(from_conv(first), from_conv(second))


@given(st.data(), STRIDES)
def test_maps_that_drop_different_ends_are_added_where_their_outputs_agree(data, stride):
    first, second = (data.draw(conv_maps(4, stride)) for _ in range(2))
    more = [data.draw(st.integers(0, step - 1)) for step in stride]
    sides = tuple((b, a + extra) for (b, a), extra in zip(second.padding, more, strict=True))
    second = replace(second, padding=sides)
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    image = torch.randn(2, 4, height, width, dtype=torch.float64)
    outputs = apply(first, image), apply(second, image)
    assume(outputs[0].shape == outputs[1].shape)
    torch.testing.assert_close(apply(add(first, second), image), sum(outputs), rtol=1e-9, atol=1e-9)


def test_pooled_branch_beside_a_strided_one_needs_no_padding_of_its_own():
    large = from_conv(nn.Conv2d(2, 2, 3, 2, 1))
    pooled = average(2, (2, 2), (2, 2), (0, 0))
    assert add(pooled, large).padding == add(large, pooled).padding == ((1, 1), (1, 1))


def test_outputs_that_never_agree_are_refused():
    large = from_conv(nn.Conv2d(1, 1, 3, stride=2))
    single = from_conv(nn.Conv2d(1, 1, 1, stride=2))
    with pytest.raises(MapError, match="outputs of different sizes along axis 2"):
        add(large, single)


def test_sum_along_one_axis():
    convs = [nn.Conv1d(4, 4, k, padding=k // 2, groups=2).double() for k in (3, 5)]
    signal = torch.randn(2, 4, 9, dtype=torch.float64)
    total = add(add(*map(from_conv, convs)), identity(4, 1))
    expected = convs[0](signal) + convs[1](signal) + signal
    torch.testing.assert_close(apply(total, signal), expected)


def test_transposed_maps_of_one_geometry_are_added():
    convs = [nn.ConvTranspose2d(4, 4, 3, stride=2, groups=g).double() for g in (1, 2)]
    total = add(*map(from_conv, convs))
    image = torch.randn(1, 4, 4, 5, dtype=torch.float64)
    merged = to_conv(total, like=image, requires_grad=False)
    torch.testing.assert_close(merged(image), convs[0](image) + convs[1](image))


@pytest.mark.parametrize("other", [nn.ConvTranspose2d(4, 4, 2), nn.Conv2d(4, 4, 3)], ids=type)
def test_transposed_maps_of_other_geometry_are_refused(other):
    with pytest.raises(MapError, match="transposed branches differ in"):
        add(from_conv(nn.ConvTranspose2d(4, 4, 3)), from_conv(other))
