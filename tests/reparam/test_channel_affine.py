import pytest
import torch
from torch import nn

from repq_fx.reparam import (
    batch_norm_scale_shift,
    from_conv,
    identity,
    scale_channels,
    shift_channels,
    to_conv,
)


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("eps", [1e-3, 1e-5], ids=["large_eps", "default_eps"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
def test_batch_norm_after_conv(affine, eps, bias, randomize_batch_norm):
    conv = nn.Conv2d(4, 6, 3, padding=1, bias=bias).double()
    norm = randomize_batch_norm(nn.BatchNorm2d(6, eps=eps, affine=affine).double().eval())
    scale, shift = batch_norm_scale_shift(
        norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps
    )
    conv_map = shift_channels(scale_channels(from_conv(conv), scale), shift)
    image = torch.randn(2, 4, 7, 5, dtype=torch.float64)
    merged = to_conv(conv_map, like=conv.weight, requires_grad=False)
    torch.testing.assert_close(merged(image), norm(conv(image)), rtol=1e-12, atol=1e-12)


def test_scale_and_shift_by_a_number():
    image = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    conv_map = shift_channels(scale_channels(identity(3), -2.0), 0.5)
    merged = to_conv(conv_map, like=image, requires_grad=False)
    torch.testing.assert_close(merged(image), 0.5 - 2 * image)


def test_neutral_numbers_change_nothing():
    conv_map = identity(3)
    assert scale_channels(shift_channels(conv_map, 0), 1.0) is conv_map
