"""VanillaNet, whose activations become identities, and the linear layers of LeViT."""

import torch
from torch import nn
from torch.nn import functional as F


class SeriesActivation(nn.ReLU):
    """Inherits from an activation and holds a depthwise convolution."""

    def __init__(self, channels, reach=3):
        super().__init__()
        size = 2 * reach + 1
        self.weight = nn.Parameter(torch.randn(channels, 1, size, size))
        self.bn, self.channels, self.reach = nn.BatchNorm2d(channels), channels, reach

    def forward(self, x):
        x = F.conv2d(super().forward(x), self.weight, padding=self.reach, groups=self.channels)
        return self.bn(x)


class VanillaBlock(nn.Module):
    """Two 1x1 convolutions around a leaky ReLU whose slope has grown to 1."""

    def __init__(self, inputs, outputs, kernel_size=1, slope=1.0):
        super().__init__()
        self.act_learn = slope
        hidden = outputs if kernel_size > 1 else inputs
        self.conv1 = nn.Sequential(
            nn.Conv2d(inputs, hidden, kernel_size, kernel_size), nn.BatchNorm2d(hidden)
        )
        self.conv2 = nn.Sequential(nn.Conv2d(hidden, outputs, 1), nn.BatchNorm2d(outputs))
        self.pool, self.act = nn.MaxPool2d(2), SeriesActivation(outputs)

    def forward(self, x):
        x = F.leaky_relu(self.conv1(x), self.act_learn)
        return self.act(self.pool(self.conv2(x)))


class LinearBN(nn.Module):
    """Tokens ``[N, L, C]``, which the normalization sees flattened."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.c, self.bn = nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs)

    def forward(self, x):
        x = self.c(x)
        return self.bn(x.flatten(0, 1)).reshape_as(x)


class TokenLinear(nn.Module):
    """A `LinearBN` on the pixels of an image."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = LinearBN(inputs, outputs)

    def forward(self, x):
        return F.hardswish(self.linear(x.flatten(2).transpose(1, 2)))


class Attention(nn.Module):
    """Entering evaluation mode caches a gather of parameters in a plain attribute."""

    def __init__(self, channels, side=3):
        super().__init__()
        self.side, tokens = side, side**2
        self.scale = channels**-0.5
        self.qkv, self.proj = LinearBN(channels, 3 * channels), LinearBN(channels, channels)
        self.attention_biases = nn.Parameter(torch.randn(tokens))
        place = torch.arange(tokens)
        self.register_buffer("bias_idxs", (place[:, None] - place[None, :]).abs())

    @torch.no_grad()
    def train(self, mode=True):
        super().train(mode)
        if mode and hasattr(self, "ab"):
            del self.ab
        else:
            self.ab = self.attention_biases[self.bias_idxs]
        return self

    def forward(self, x):
        tokens = F.adaptive_avg_pool2d(x, self.side).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).chunk(3, dim=2)
        bias = self.attention_biases[self.bias_idxs] if self.training else self.ab
        attention = (q @ k.transpose(-2, -1) * self.scale + bias).softmax(dim=-1)
        return tokens + self.proj(F.hardswish(attention @ v))


class TwoHeads(nn.Module):
    """The mean of two classifiers, each a normalization and a linear layer."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.head, self.head_dist = (
            nn.Sequential(nn.BatchNorm1d(inputs), nn.Linear(inputs, outputs)) for _ in range(2)
        )

    def forward(self, x):
        x = x.mean((2, 3))
        return (self.head(x) + self.head_dist(x)) / 2
