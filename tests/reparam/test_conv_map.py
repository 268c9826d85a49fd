import pytest
import torch
from torch import nn

from repq_fx.reparam import ConvMap, MapError, from_conv2d, identity, to_conv2d

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
}


@pytest.mark.parametrize("make", CONVS.values(), ids=CONVS.keys())
def test_round_trip_is_exact(make):
    conv = make()
    restored = to_conv2d(from_conv2d(conv), like=conv.weight, requires_grad=True)
    image = torch.randn(2, 4, 9, 10)
    torch.testing.assert_close(restored(image), conv(image), rtol=0, atol=0)


def test_map_is_float64_and_detached():
    conv_map = from_conv2d(nn.Conv2d(2, 3, 1).half())
    assert conv_map.kernel.dtype == conv_map.bias.dtype == torch.float64
    assert not conv_map.kernel.requires_grad
    assert (conv_map.in_channels, conv_map.out_channels) == (2, 3)
    assert conv_map.kernel_size == (1, 1)


def test_absent_bias_stays_absent():
    assert from_conv2d(nn.Conv2d(2, 3, 1, bias=False)).bias is None


def test_dilation_of_a_single_tap_is_dropped():
    assert from_conv2d(nn.Conv2d(1, 1, (1, 3), dilation=(5, 2))).dilation == (1, 2)


def test_identity_returns_its_input():
    image = torch.randn(2, 5, 4, 3)
    conv = to_conv2d(identity(5), like=image, requires_grad=False)
    torch.testing.assert_close(conv(image), image, rtol=0, atol=0)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
def test_module_takes_dtype_memory_format_and_gradient(dtype):
    like = torch.empty(4, 4, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
    conv = to_conv2d(from_conv2d(nn.Conv2d(4, 4, 3)), like=like, requires_grad=False)
    assert conv.weight.dtype == conv.bias.dtype == dtype
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert not conv.weight.requires_grad
    assert not conv.training


def test_module_draws_no_random_numbers():
    like = torch.empty(1)
    before = torch.get_rng_state()
    to_conv2d(identity(3), like=like, requires_grad=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_asymmetric_padding_is_refused():
    kernel = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    conv_map = ConvMap(kernel, padding=((0, 1), (0, 1)))
    with pytest.raises(MapError, match="top 0, bottom 1, left 0, right 1"):
        to_conv2d(conv_map, like=kernel, requires_grad=False)
