"""Diverse branch blocks (DBB) and online re-parameterization (OREPA)."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .repvgg import conv_bn


class PaddedNorm(nn.Module):
    """Normalizes, then pads with what a zero is normalized to, by writing into the border."""

    def __init__(self, channels, padding, affine=True):
        super().__init__()
        self.bn, self.padding = nn.BatchNorm2d(channels, affine=affine), padding

    def forward(self, input):
        output = self.bn(input)
        if self.padding > 0:
            p, bn = self.padding, self.bn
            value = -bn.running_mean / torch.sqrt(bn.running_var + bn.eps)
            if bn.affine:
                value = value * bn.weight.detach() + bn.bias.detach()
            output = F.pad(output, [p] * 4)
            value = value.view(1, -1, 1, 1)
            output[:, :, 0:p, :] = value
            output[:, :, -p:, :] = value
            output[:, :, :, 0:p] = value
            output[:, :, :, -p:] = value
        return output


class IdentityBasedConv(nn.Conv2d):
    """A 1x1 convolution to whose weight each call adds the identity, which is no buffer."""

    def __init__(self, channels, outputs, groups):
        super().__init__(channels, outputs, 1, groups=groups, bias=False)
        group_size = channels // groups
        identity = torch.zeros(self.weight.shape)
        for output in range(outputs):
            identity[output, output % group_size] = 1
        self.id_tensor = identity

    def forward(self, input):
        kernel = self.weight + self.id_tensor.to(self.weight.device).type_as(self.weight)
        return F.conv2d(input, kernel, None, 1, 0, 1, self.groups)


class DiverseBranch(nn.Module):
    def __init__(self, inputs, outputs, kernel_size, stride=1, groups=1):
        super().__init__()
        padding = kernel_size // 2
        is_depthwise = groups == outputs
        hidden = 2 * inputs if is_depthwise else inputs
        self.dbb_origin = conv_bn(inputs, outputs, kernel_size, stride, groups=groups)
        self.dbb_avg = nn.Sequential()
        if is_depthwise:
            self.dbb_avg.add_module("avg", nn.AvgPool2d(kernel_size, stride, padding))
        else:
            conv = nn.Conv2d(inputs, outputs, 1, groups=groups, bias=False)
            self.dbb_avg.add_module("conv", conv)
            self.dbb_avg.add_module("bn", PaddedNorm(outputs, padding))
            self.dbb_avg.add_module("avg", nn.AvgPool2d(kernel_size, stride))
            self.dbb_1x1 = conv_bn(inputs, outputs, 1, stride, groups=groups)
        self.dbb_avg.add_module("avgbn", nn.BatchNorm2d(outputs))
        self.dbb_1x1_kxk = nn.Sequential(
            IdentityBasedConv(inputs, hidden, groups),
            PaddedNorm(hidden, padding, affine=not is_depthwise),
            *conv_bn(hidden, outputs, kernel_size, stride, 0, groups=groups),
        )
        self.act = nn.ReLU()

    def forward(self, inputs):
        if hasattr(self, "dbb_reparam"):
            return self.act(self.dbb_reparam(inputs))
        out = self.dbb_origin(inputs)
        if hasattr(self, "dbb_1x1"):
            out += self.dbb_1x1(inputs)
        out += self.dbb_avg(inputs)
        out += self.dbb_1x1_kxk(inputs)
        return self.act(out)


def cosine_prior(channels, kernel_size):
    """One two-dimensional cosine for each channel."""
    place = (torch.arange(kernel_size) + 0.5) * math.pi / kernel_size
    waves = [
        torch.outer(torch.cos(place * (c // 2)), torch.cos(place * ((c + 1) // 2)))
        for c in range(channels)
    ]
    return torch.stack(waves)


class OnlineReparam(nn.Module):
    """OREPA: one convolution, whose weight each call sums up from six branches."""

    def __init__(self, inputs, outputs, kernel_size, stride=1, groups=1):
        super().__init__()
        self.kernel_size, self.stride, self.groups = kernel_size, stride, groups
        per_group = inputs // groups

        def weight(*shape):
            return nn.Parameter(torch.randn(shape) / per_group)

        self.origin = weight(outputs, per_group, kernel_size, kernel_size)
        self.avg_conv = weight(outputs, per_group, 1, 1)
        self.prior_conv = weight(outputs, per_group, 1, 1)
        self.inner_1x1 = weight(per_group, per_group, 1, 1)
        self.outer_kxk = weight(outputs, per_group, kernel_size, kernel_size)
        self.separable_dw = weight(per_group, 2, kernel_size, kernel_size)
        self.separable_pw = weight(outputs, 2 * per_group, 1, 1)
        self.pointwise = weight(outputs, per_group, 1, 1)
        average = torch.full((kernel_size, kernel_size), 1.0 / kernel_size**2)
        self.register_buffer("average", average)
        self.register_buffer("prior", cosine_prior(per_group, kernel_size))
        self.vector = nn.Parameter(torch.rand(6, outputs))
        self.bn, self.act = nn.BatchNorm2d(outputs), nn.ReLU()

    def separable_weight(self, depthwise, pointwise):
        per_group, multiplier, height, width = depthwise.size()
        outputs = int(pointwise.size(0))
        pointwise = pointwise.view(outputs, int(per_group), int(multiplier))
        return torch.einsum("imhw,oim->oihw", depthwise, pointwise).reshape(
            outputs, int(per_group), int(height), int(width)
        )

    def generate_weight(self):
        def scaled(weight, index):
            return torch.einsum("oihw,o->oihw", weight, self.vector[index])

        total = scaled(self.origin, 0)
        total += scaled(torch.einsum("oixy,hw->oihw", self.avg_conv, self.average), 1)
        total += scaled(torch.einsum("oixy,ihw->oihw", self.prior_conv, self.prior), 2)
        inner = self.inner_1x1.squeeze(3).squeeze(2)
        total += scaled(torch.einsum("ti,othw->oihw", inner, self.outer_kxk), 3)
        total += scaled(self.separable_weight(self.separable_dw, self.separable_pw), 4)
        return total + F.pad(scaled(self.pointwise, 5), [self.kernel_size // 2] * 4)

    def forward(self, inputs):
        weight = self.generate_weight().type_as(inputs)
        out = F.conv2d(inputs, weight, None, self.stride, self.kernel_size // 2, groups=self.groups)
        return self.act(self.bn(out))


class OnlineRepVGG(nn.Module):
    """An OREPA convolution beside the 1x1 and the identity branch of RepVGG."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.rbr_dense = OnlineReparam(inputs, outputs, 3, stride)
        self.rbr_dense.act = nn.Identity()
        self.rbr_1x1 = conv_bn(inputs, outputs, 1, stride)
        has_identity = inputs == outputs and stride == 1
        self.rbr_identity = nn.BatchNorm2d(inputs) if has_identity else None
        self.act = nn.ReLU()

    def forward(self, inputs):
        out = self.rbr_dense(inputs) + self.rbr_1x1(inputs)
        if self.rbr_identity is not None:
            out += self.rbr_identity(inputs)
        return self.act(out)
