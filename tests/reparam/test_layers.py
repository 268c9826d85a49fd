import pytest
import torch
from torch import nn

from repq_fx.reparam import (
    ConvMap,
    MapError,
    from_conv,
    from_linear,
    identity,
    split_padding,
    to_conv,
    to_linear,
)
from tests.reparam.random_maps import apply

CONVS = {
    "plain": lambda: nn.Conv2d(4, 6, 3),
    "no_bias": lambda: nn.Conv2d(4, 6, 3, bias=False),
    "strided": lambda: nn.Conv2d(4, 6, 3, stride=(2, 1), padding=(1, 0)),
    "dilated": lambda: nn.Conv2d(4, 6, (3, 1), dilation=(2, 3), padding=(2, 0)),
    "grouped": lambda: nn.Conv2d(4, 8, 3, groups=2, padding=1),
    "multiplier": lambda: nn.Conv2d(4, 8, 3, groups=4, padding=1),
    "reflect": lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    "circular": lambda: nn.Conv2d(4, 4, 5, padding=2, padding_mode="circular"),
    "same": lambda: nn.Conv2d(4, 4, 3, dilation=2, padding="same"),
    "valid": lambda: nn.Conv2d(4, 4, 3, padding="valid"),
    "one_axis": lambda: nn.Conv1d(4, 6, 3, padding=1, groups=2),
    "three_axes": lambda: nn.Conv3d(4, 6, (3, 1, 2), stride=(1, 2, 1), padding=(1, 0, 2)),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=(1, 0)),
    "transposed_groups": lambda: nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2, bias=False),
    "transposed_one_axis": lambda: nn.ConvTranspose1d(4, 3, 4, stride=3),
}


@pytest.mark.parametrize("make", CONVS.values(), ids=CONVS.keys())
def test_round_trip_is_exact(make):
    conv = make()
    restored = to_conv(from_conv(conv), like=conv.weight, requires_grad=True)
    image = torch.randn(2, 4, *(9, 10, 5)[: conv.weight.ndim - 2])
    assert type(restored) is type(conv)
    torch.testing.assert_close(restored(image), conv(image), rtol=0, atol=0)


def test_map_is_float64_and_detached():
    conv_map = from_conv(nn.Conv2d(2, 3, 1).half())
    assert conv_map.kernel.dtype == conv_map.bias.dtype == torch.float64
    assert not conv_map.kernel.requires_grad
    assert (conv_map.in_channels, conv_map.out_channels) == (2, 3)
    assert conv_map.taps == (1, 1)


def test_absent_bias_stays_absent():
    assert from_conv(nn.Conv2d(2, 3, 1, bias=False)).bias is None


def test_dilation_of_a_single_tap_is_dropped():
    assert from_conv(nn.Conv2d(1, 1, (1, 3), dilation=(5, 2))).dilation == (1, 2)


def test_identity_returns_its_input():
    image = torch.randn(2, 5, 4, 3)
    conv = to_conv(identity(5), like=image, requires_grad=False)
    torch.testing.assert_close(conv(image), image, rtol=0, atol=0)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
def test_module_takes_dtype_memory_format_and_gradient(dtype):
    like = torch.empty(4, 4, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
    conv = to_conv(from_conv(nn.Conv2d(4, 4, 3)), like=like, requires_grad=False)
    assert conv.weight.dtype == conv.bias.dtype == dtype
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert not conv.weight.requires_grad
    assert not conv.training


def test_module_draws_no_random_numbers():
    like = torch.empty(1)
    before = torch.get_rng_state()
    to_conv(identity(3), like=like, requires_grad=False)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize(
    "padding", [((2, 0), (1, 1)), ((1, 2), (3, 1)), ((-1, 2), (0, -1))], ids=str
)
def test_padding_that_no_module_has_is_split_off(padding, mode):
    kernel = torch.randn(1, 1, 3, 2, dtype=torch.float64)
    conv_map = ConvMap(kernel, padding=padding, padding_mode=mode)
    with pytest.raises(MapError, match="no module pads"):
        to_conv(conv_map, like=kernel, requires_grad=False)
    sides, rest = split_padding(conv_map)
    image = torch.randn(1, 1, 7, 6, dtype=torch.float64)
    amounts = [amount for pair in reversed(sides) for amount in pair]
    padded = nn.functional.pad(image, amounts, "constant" if mode == "zeros" else mode)
    conv = to_conv(rest, like=kernel, requires_grad=False)
    torch.testing.assert_close(conv(padded), apply(conv_map, image))


def test_equal_padding_is_not_split():
    conv_map = from_conv(nn.Conv2d(2, 2, 3, padding=(1, 0)))
    assert split_padding(conv_map) == (None, conv_map)


@pytest.mark.parametrize("spatial_dims", [0, 1, 2])
def test_linear_round_trip(spatial_dims):
    linear = nn.Linear(5, 3)
    conv_map = from_linear(linear.weight, linear.bias, spatial_dims)
    assert conv_map.taps == (1,) * spatial_dims
    restored = to_linear(conv_map, like=linear.weight, requires_grad=True)
    torch.testing.assert_close(restored.weight, linear.weight, rtol=0, atol=0)
    torch.testing.assert_close(restored.bias, linear.bias, rtol=0, atol=0)


def test_spatial_kernel_is_no_linear_layer():
    with pytest.raises(MapError, match=r"kernel of \(3, 3\) taps is no linear layer"):
        to_linear(from_conv(nn.Conv2d(2, 2, 3)), like=torch.ones(1), requires_grad=False)
