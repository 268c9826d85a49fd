"""Blocks with large depthwise kernels: RepLKNet, SLaK, UniRepLKNet."""

import torch
from torch import nn
from torch.nn import functional as F

from .repvgg import conv_bn

DILATED_BRANCHES = {
    5: ((3, 1), (3, 2)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
}
"""(kernel size, dilation) of the branches beside the kernel of each size."""


class DepthwiseConv(nn.Conv2d):
    """Stands for a convolution with a kernel of its own: a subclass with another forward."""

    def __init__(self, channels, kernel_size, **options):
        super().__init__(channels, channels, kernel_size, groups=channels, **options)

    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, 1, self.groups)


class ReparamLargeKernel(nn.Module):
    def __init__(self, channels, kernel_size, small_kernel=None, stride=1):
        super().__init__()
        self.lkb_origin = conv_bn(channels, channels, kernel_size, stride, groups=channels)
        if small_kernel is not None:
            self.small_conv = conv_bn(channels, channels, small_kernel, stride, groups=channels)

    def forward(self, inputs):
        if hasattr(self, "lkb_reparam"):
            return self.lkb_reparam(inputs)
        out = self.lkb_origin(inputs)
        if hasattr(self, "small_conv"):
            out += self.small_conv(inputs)
        return out


class RepLKBlock(nn.Module):
    """Normalizes in front of the first 1x1 convolution."""

    def __init__(self, channels, kernel_size):
        super().__init__()
        self.prelkb_bn = nn.BatchNorm2d(channels)
        self.pw1 = nn.Sequential(*conv_bn(channels, 2 * channels, 1), nn.ReLU())
        self.large_kernel = ReparamLargeKernel(2 * channels, kernel_size, 5)
        self.nonlinear = nn.ReLU()
        self.pw2 = conv_bn(2 * channels, channels, 1)
        self.drop_path = nn.Identity()

    def forward(self, x):
        out = self.pw1(self.prelkb_bn(x))
        out = self.nonlinear(self.large_kernel(out))
        return x + self.drop_path(self.pw2(out))


class DecomposedLargeKernel(nn.Module):
    """SLaK: two strips that cross, and a small square at the crossing."""

    def __init__(self, channels, kernel_size):
        super().__init__()
        half = kernel_size // 2

        def strip_bn(*shape, padding):
            conv = DepthwiseConv(channels, shape, padding=padding, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(channels))

        self.lora1 = strip_bn(kernel_size, 5, padding=(half, 2))
        self.lora2 = strip_bn(5, kernel_size, padding=(2, half))
        self.small_conv = strip_bn(5, 5, padding=2)

    def forward(self, inputs):
        out = self.lora1(inputs) + self.lora2(inputs)
        out += self.small_conv(inputs)
        return out


class DilatedReparam(nn.Module):
    """Dilated branches that are found by their names, and a normalization of the sum."""

    def __init__(self, channels, kernel_size):
        super().__init__()
        self.branches = DILATED_BRANCHES[kernel_size]
        options = {"groups": channels, "bias": False}
        self.lk_origin = nn.Conv2d(
            channels, channels, kernel_size, padding=kernel_size // 2, **options
        )
        self.origin_bn = nn.BatchNorm2d(channels)
        for size, rate in self.branches:
            conv = nn.Conv2d(
                channels, channels, size, padding=rate * (size // 2), dilation=rate, **options
            )
            setattr(self, f"dil_conv_k{size}_{rate}", conv)
            setattr(self, f"dil_bn_k{size}_{rate}", nn.BatchNorm2d(channels))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        if not hasattr(self, "origin_bn"):
            return self.lk_origin(x)
        out = self.origin_bn(self.lk_origin(x))
        for size, rate in self.branches:
            conv = self.__getattr__(f"dil_conv_k{size}_{rate}")
            bn = self.__getattr__(f"dil_bn_k{size}_{rate}")
            out = out + bn(conv(x))
        return self.norm(out)


class GlobalResponseNorm(nn.Module):
    """Works on channels last; its shift meets the next linear layer."""

    def __init__(self, channels):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x):
        response = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
        response = response / (response.mean(dim=-1, keepdim=True) + 1e-6)
        return (self.gamma * response + 1) * x + self.beta


class UniRepLKBlock(nn.Module):
    """The second linear layer, a permutation, a normalization and a layer scale are one map."""

    def __init__(self, channels):
        super().__init__()
        self.dwconv = DilatedReparam(channels, 13)
        self.pwconv1, self.act = nn.Linear(channels, 2 * channels), nn.GELU()
        self.grn = GlobalResponseNorm(2 * channels)
        self.pwconv2 = nn.Linear(2 * channels, channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        y = self.dwconv(x).permute(0, 2, 3, 1)
        y = self.grn(self.act(self.pwconv1(y)))
        y = self.norm(self.pwconv2(y).permute(0, 3, 1, 2))
        return x + self.gamma.view(1, -1, 1, 1) * y
