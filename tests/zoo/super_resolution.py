"""Blocks of super-resolution networks: ECB, Conv3XC, RT4KSR, IFADNet, MFDNet."""

import torch
from torch import nn
from torch.nn import functional as F

SOBEL = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
LAPLACE = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])


def pad_with(x, value):
    """`x` between borders of `value`, which are written into a zero padding."""
    padded = F.pad(x, (1, 1, 1, 1))
    value = value.view(1, -1, 1, 1)
    padded[:, :, 0:1, :] = value
    padded[:, :, -1:, :] = value
    padded[:, :, :, 0:1] = value
    padded[:, :, :, -1:] = value
    return padded


class SeqConv3x3(nn.Module):
    """1x1 then 3x3, padded between them with the bias of the first."""

    def __init__(self, inputs, outputs):
        super().__init__()
        first, second = nn.Conv2d(inputs, 2 * outputs, 1), nn.Conv2d(2 * outputs, outputs, 3)
        self.k0, self.b0 = nn.Parameter(first.weight), nn.Parameter(first.bias)
        self.k1, self.b1 = nn.Parameter(second.weight), nn.Parameter(second.bias)

    def forward(self, x):
        return F.conv2d(pad_with(F.conv2d(x, self.k0, self.b0), self.b0), self.k1, self.b1)

    def rep_params(self):
        """The weight and the bias of one 3x3 convolution, computed by convolving the weights."""
        kernel = F.conv2d(self.k1, self.k0.permute(1, 0, 2, 3))
        border = self.b0.view(1, -1, 1, 1).expand(1, -1, 3, 3)
        return kernel, F.conv2d(border, self.k1, self.b1).view(-1)


class SeqEdge3x3(nn.Module):
    """1x1 then a fixed edge filter of each channel, scaled."""

    def __init__(self, inputs, outputs, mask):
        super().__init__()
        first = nn.Conv2d(inputs, outputs, 1)
        self.k0, self.b0 = nn.Parameter(first.weight), nn.Parameter(first.bias)
        self.scale = nn.Parameter(torch.rand(outputs, 1, 1, 1))
        self.bias = nn.Parameter(torch.rand(outputs))
        mask = mask.expand(outputs, 1, 3, 3).clone()
        self.mask, self.outputs = nn.Parameter(mask, requires_grad=False), outputs

    def forward(self, x):
        padded = pad_with(F.conv2d(x, self.k0, self.b0), self.b0)
        return F.conv2d(padded, self.scale * self.mask, self.bias, groups=self.outputs)

    def rep_params(self):
        scaled = self.scale * self.mask
        dense = torch.zeros(self.outputs, self.outputs, 3, 3, dtype=scaled.dtype)
        for channel in range(self.outputs):
            dense[channel, channel, :, :] = scaled[channel, 0, :, :]
        kernel = F.conv2d(dense, self.k0.permute(1, 0, 2, 3))
        border = self.b0.view(1, -1, 1, 1).expand(1, -1, 3, 3)
        return kernel, F.conv2d(border, dense, self.bias).view(-1)


class EdgeConv(nn.Module):
    """ECB; `deployed` stands for evaluation mode, where each call computes the merged kernel."""

    def __init__(self, inputs, outputs, *, deployed=False):
        super().__init__()
        self.deployed, self.has_identity = deployed, inputs == outputs
        self.conv3x3 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv1x1_3x3 = SeqConv3x3(inputs, outputs)
        masks = (SOBEL, SOBEL.T, LAPLACE)
        self.edges = nn.ModuleList(SeqEdge3x3(inputs, outputs, mask) for mask in masks)
        self.act = nn.PReLU(outputs)

    def forward(self, x):
        if self.deployed:
            return self.act(F.conv2d(x, *self.rep_params(), stride=1, padding=1))
        y = self.conv3x3(x) + self.conv1x1_3x3(x)
        for edge in self.edges:
            y = y + edge(x)
        if self.has_identity:
            y += x
        return self.act(y)

    def rep_params(self):
        kernel, bias = self.conv3x3.weight, self.conv3x3.bias
        for branch in (self.conv1x1_3x3, *self.edges):
            branch_kernel, branch_bias = branch.rep_params()
            kernel, bias = kernel + branch_kernel, bias + branch_bias
        if self.has_identity:
            outputs = kernel.shape[0]
            device = None if kernel.get_device() < 0 else kernel.device
            identity = torch.zeros(outputs, outputs, 3, 3, dtype=kernel.dtype, device=device)
            for channel in range(outputs):
                identity[channel, channel, 1, 1] = 1.0
            kernel = kernel + identity
        return kernel, bias


class Conv3XC(nn.Module):
    """1x1, 3x3, 1x1 on an input that is padded first; `deployed` as in `EdgeConv`."""

    def __init__(self, inputs, outputs, *, deployed=False):
        super().__init__()
        self.deployed = deployed
        self.sk = nn.Conv2d(inputs, outputs, 1)
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, 2 * inputs, 1),
            nn.Conv2d(2 * inputs, 2 * outputs, 3),
            nn.Conv2d(2 * outputs, outputs, 1),
        )

    def merged(self):
        first, second, third = self.conv
        inner, outer = first.weight[:, :, 0, 0], third.weight[:, :, 0, 0]
        kernel = torch.einsum("on,nmhw,mi->oihw", outer, second.weight, inner)
        bias = second.bias + second.weight.sum((2, 3)) @ first.bias
        bias = third.bias + outer @ bias
        return kernel + F.pad(self.sk.weight, [1, 1, 1, 1]), bias + self.sk.bias

    def forward(self, x):
        if self.deployed:
            return F.conv2d(x, *self.merged(), padding=1)
        return self.conv(F.pad(x, (1, 1, 1, 1), "constant", 0)) + self.sk(x)


class StaleConv3XC(Conv3XC):
    """SPAN in evaluation mode: the forward writes the merged weights into a convolution."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.eval_conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x):
        self.eval_conv.weight.data, self.eval_conv.bias.data = self.merged()
        return self.eval_conv(x)


class NestedResidual(nn.Module):
    """RT4KSR: a residual in the middle of a chain, inside of a residual."""

    def __init__(self, channels):
        super().__init__()
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.fea = nn.Conv2d(2 * channels, 2 * channels, 3)
        self.reduce = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x):
        hidden = self.expand(x)
        out = self.fea(pad_with(hidden, self.expand.bias)) + hidden
        return self.reduce(out) + x


class PointwiseChain(nn.Module):
    """1x1 -> 3x3 [-> 1x1], where no bias lies in front of the zero padding.

    IFADNet has the first two layers; MFDNet all three, an identity, and a normalization.
    """

    def __init__(self, channels, *, last):
        super().__init__()
        self.first = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.middle = nn.Conv2d(2 * channels, 2 * channels if last else channels, 3, 1, 1)
        self.last = nn.Conv2d(2 * channels, channels, 1, bias=False) if last else None
        self.bn = nn.BatchNorm2d(channels) if last else None

    def forward(self, x):
        out = self.middle(self.first(x))
        if self.last is None:
            return out
        return self.bn(self.last(out) + x)
