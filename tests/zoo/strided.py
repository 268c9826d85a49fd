"""Branches of one stride whose windows end differently, and gates that are made of parameters."""

import torch
from torch import nn
from torch.nn import functional as F

from .repvgg import conv_bn


class EndPadded(nn.Module):
    """A strided 3x3 after padding at the end alone, as in models from TensorFlow, beside a 1x1."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.pad, self.conv = nn.ZeroPad2d((0, 1, 0, 1)), conv_bn(inputs, outputs, 3, 2, 0)
        self.point, self.act = conv_bn(inputs, outputs, 1, 2), nn.ReLU()

    def forward(self, x):
        return self.act(self.conv(self.pad(x)) + self.point(x))


class PooledPoint(nn.Module):
    """A strided 3x3 beside a 1x1 on average-pooled values, as in the shortcuts of ResNet-D."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv, self.pool = conv_bn(inputs, outputs, 3, 2), nn.AvgPool2d(2, 2)
        self.point, self.act = conv_bn(inputs, outputs, 1), nn.ReLU()

    def forward(self, x):
        return self.act(self.conv(x) + self.point(self.pool(x)))


class SameConv(nn.Conv2d):
    """A convolution that keeps the size."""

    def __init__(self, inputs, outputs, kernel_size):
        super().__init__(inputs, outputs, kernel_size, padding=kernel_size // 2)


class ParameterGate(nn.Module):
    """PlainUSR: branches weighted by gates that layers compute from learned vectors."""

    def __init__(self, channels):
        super().__init__()
        self.start = nn.Parameter(torch.randn(1, 2, 1, 1))
        self.gate = nn.Sequential(
            nn.Conv2d(2, 3, 1), nn.ReLU(inplace=True), nn.Conv2d(3, channels, 1), nn.Sigmoid()
        )
        self.large, self.point = SameConv(channels, channels, 3), SameConv(channels, channels, 1)
        self.act = nn.ReLU()

    def forward(self, x):
        gate = self.gate(self.start.type_as(x))
        return self.act(self.large(x) * gate + self.point(x) * (1 - gate) + x)


class CopiedWeights(nn.Module):
    """SPAN: each call joins copies of the weights on the device of its input."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.sk = nn.Conv2d(inputs, outputs, 1)
        self.conv, self.last = nn.Conv2d(inputs, 2 * outputs, 3), nn.Conv2d(2 * outputs, outputs, 1)
        self.act = nn.PReLU(outputs)

    def forward(self, x):
        first, second = (layer.weight.clone().detach() for layer in (self.conv, self.last))
        kernel = F.conv2d(first.permute(1, 0, 2, 3), second).permute(1, 0, 2, 3)
        bias = (second[:, :, 0, 0] @ self.conv.bias) + self.last.bias + self.sk.bias
        kernel = kernel + F.pad(self.sk.weight.detach(), [1] * 4)
        return self.act(F.conv2d(x, kernel.to(x.device).contiguous(), bias.to(x), padding=1))
