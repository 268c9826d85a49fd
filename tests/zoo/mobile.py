"""Blocks of small networks: MobileOne, FastViT, RepViT, RepGhost, PP-LCNetV3, FRR-NET."""

import torch
from torch import nn
from torch.nn import functional as F

from .repvgg import SqueezeExcite, conv_bn


class MobileOne(nn.Module):
    def __init__(
        self, inputs, outputs, kernel_size, stride=1, groups=1, branches=4, scale=True, act=True
    ):
        super().__init__()
        taps = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
        padding = tuple(size // 2 for size in taps)
        self.has_scale = scale and max(taps) > 1
        self.rbr_conv = nn.ModuleList(
            conv_bn(inputs, outputs, kernel_size, stride, padding, groups=groups)
            for _ in range(branches)
        )
        self.rbr_scale = (
            conv_bn(inputs, outputs, 1, stride, groups=groups) if self.has_scale else None
        )
        self.rbr_skip = nn.BatchNorm2d(inputs) if inputs == outputs and stride == 1 else None
        self.se = nn.Identity()
        self.act = nn.ReLU() if act else nn.Identity()

    def forward(self, x):
        identity_out = 0
        if self.rbr_skip is not None:
            identity_out = self.rbr_skip(x)
        scale_out = 0
        if self.rbr_scale is not None:
            scale_out = self.rbr_scale(x)
        out = scale_out + identity_out
        for index in range(len(self.rbr_conv)):
            out += self.rbr_conv[index](x)
        return self.act(self.se(out))


def mobileone_pair(inputs, outputs, stride):
    """Depthwise, squeezed, then pointwise."""
    depthwise = MobileOne(inputs, inputs, 3, stride, groups=inputs)
    depthwise.se = SqueezeExcite(inputs)
    return nn.Sequential(depthwise, MobileOne(inputs, outputs, 1))


class RepMixer(nn.Module):
    """``x + scale * (mixer(x) - norm(x))``, all of it linear; the scale is optional."""

    def __init__(self, channels, kernel_size, layer_scale=True):
        super().__init__()
        self.channels = channels
        self.norm = MobileOne(
            channels, channels, 3, groups=channels, branches=0, scale=False, act=False
        )
        self.mixer = MobileOne(
            channels, channels, kernel_size, groups=channels, branches=1, act=False
        )
        self.layer_scale = nn.Parameter(torch.ones(channels, 1, 1)) if layer_scale else None

    def forward(self, x):
        if self.layer_scale is None:
            return x + self.mixer(x) - self.norm(x)
        return x + self.layer_scale * (self.mixer(x) - self.norm(x))


class TextRepMixer(RepMixer):
    """Compares sizes of its input before it mixes."""

    def forward(self, x):
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f"Cannot mix the shape {tuple(x.shape)}.")
        return super().forward(x)


class RepCPE(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.pe = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)

    def forward(self, x):
        if len(x.shape) == 3:
            x = x.unsqueeze(0)
        return self.pe(x) + x


class RepLargeKernel(nn.Module):
    """FastViT's patch embedding, which drops the result of its activation."""

    def __init__(self, inputs, outputs, kernel_size, small_kernel, stride=1):
        super().__init__()
        self.large = conv_bn(inputs, outputs, kernel_size, stride, groups=inputs)
        self.small = conv_bn(inputs, outputs, small_kernel, stride, groups=inputs)
        self.activation = nn.GELU()

    def forward(self, x):
        if hasattr(self, "lkb_reparam"):
            return self.lkb_reparam(x)
        out = self.large(x)
        if hasattr(self, "small"):
            out += self.small(x)
        self.activation(out)
        return out


class RepViTDepthwise(nn.Module):
    """``norm(conv(x) + pointwise(x) + x)``; LSNet normalizes the branches instead of the sum."""

    def __init__(self, channels, *, norms_sum):
        super().__init__()
        self.conv = conv_bn(channels, channels, 3, groups=channels)
        point = nn.Conv2d(channels, channels, 1, groups=channels)
        self.conv1 = point if norms_sum else conv_bn(channels, channels, 1, groups=channels)
        self.bn = nn.BatchNorm2d(channels) if norms_sum else nn.Identity()

    def forward(self, x):
        return self.bn((self.conv(x) + self.conv1(x)) + x)


class Residual(nn.Module):
    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, x):
        return x + self.m(x)


def repvit_block(channels):
    hidden = 2 * channels
    mixer = nn.Sequential(conv_bn(channels, hidden, 1), nn.GELU(), conv_bn(hidden, channels, 1))
    return nn.Sequential(RepViTDepthwise(channels, norms_sum=True), Residual(mixer))


class RepGhost(nn.Module):
    """`relu` follows the 1x1 convolution; without it, two convolutions meet at a zero border."""

    def __init__(self, inputs, outputs, *, relu, fuses_norm=True):
        super().__init__()
        self.primary_conv = nn.Sequential(
            *conv_bn(inputs, outputs, 1), nn.ReLU(inplace=True) if relu else nn.Sequential()
        )
        self.fusion_conv = nn.ModuleList([nn.Sequential()])
        self.fusion_bn = nn.ModuleList([nn.BatchNorm2d(outputs) if fuses_norm else nn.Identity()])
        self.cheap_operation = conv_bn(outputs, outputs, 3, groups=outputs)
        self.act = nn.ReLU(inplace=True) if relu else nn.Sequential()

    def forward(self, x):
        x1 = self.primary_conv(x)
        x2 = self.cheap_operation(x1)
        for conv, bn in zip(self.fusion_conv, self.fusion_bn, strict=True):
            x2 = x2 + bn(conv(x1))
        return self.act(x2)


class LearnableAffine(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.scale * x + self.bias


class LearnableRepLayer(nn.Module):
    """The activation, with an affine map behind it, is skipped where the stride is 2."""

    def __init__(self, inputs, outputs, kernel_size, stride=1, groups=1):
        super().__init__()
        has_identity = inputs == outputs and stride == 1
        self.identity = nn.BatchNorm2d(inputs) if has_identity else None
        self.conv_kxk = nn.ModuleList(
            conv_bn(inputs, outputs, kernel_size, stride, groups=groups) for _ in range(4)
        )
        self.conv_1x1 = (
            conv_bn(inputs, outputs, 1, stride, groups=groups) if kernel_size > 1 else None
        )
        self.lab = LearnableAffine()
        has_act = stride != 2
        self.act = nn.Sequential(nn.Hardswish(), LearnableAffine()) if has_act else nn.Identity()

    def forward(self, x):
        out = 0
        if self.identity is not None:
            out += self.identity(x)
        if self.conv_1x1 is not None:
            out += self.conv_1x1(x)
        for conv in self.conv_kxk:
            out += conv(x)
        return self.act(self.lab(out))


class EdgeBranches(nn.Module):
    """FRR-NET's FMRB: eight summands, of which the two with an absolute value are not linear."""

    SHAPES = ((1, 1), (3, 3), (5, 5), (7, 7), (1, 3), (3, 1))

    def __init__(self, channels, *, concatenates):
        super().__init__()
        self.concatenates = concatenates
        width = channels // 2 if concatenates else channels
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, (h, w), padding=(h // 2, w // 2), groups=width)
            for h, w in self.SHAPES
        )
        self.edges = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False) for _ in range(2)
        )

    def forward(self, x):
        x1, x2 = torch.split(x, x.size(1) // 2, dim=1) if self.concatenates else (x, None)
        sobel, laplacian = (torch.abs(edge(x1)) for edge in self.edges)
        summands = [*(conv(x1) for conv in self.convs[:4]), sobel]
        summands += [*(conv(x1) for conv in self.convs[4:]), laplacian]
        total = 0
        for summand in summands:
            total = total + (torch.cat([summand, x2], dim=1) if self.concatenates else summand)
        return F.leaky_relu(total, 0.2)
