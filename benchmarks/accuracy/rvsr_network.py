"""RVSR in its training form and in its authors' merged form, with the names of their files."""

import torch.nn.functional as F
from torch import Tensor, nn


class Mixer(nn.Module):
    """Token mixer in training form: an identity, two convolutions and two chains of three."""

    def __init__(self, channels: int):
        super().__init__()
        self.expand_conv = nn.Conv2d(channels, 2 * channels, 1)
        self.fea_conv = nn.Conv2d(2 * channels, 2 * channels, 3)
        self.reduce_conv = nn.Conv2d(2 * channels, channels, 1)
        self.expand1_conv = nn.Conv2d(channels, 2 * channels, 1)
        self.fea1_conv = nn.Conv2d(2 * channels, 2 * channels, 3)
        self.reduce1_conv = nn.Conv2d(2 * channels, channels, 1)
        self.res_conv3x3 = nn.Conv2d(channels, channels, 3, padding=1)
        self.res_conv1x1 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = pad_by(self.expand_conv(x), self.expand_conv.bias)
        second = pad_by(self.expand1_conv(x), self.expand1_conv.bias)
        return (
            self.reduce_conv(self.fea_conv(first))
            + self.reduce1_conv(self.fea1_conv(second))
            + self.res_conv3x3(x)
            + self.res_conv1x1(x)
            + x
        )


class MergedMixer(nn.Module):
    """Token mixer in the authors' merged form."""

    def __init__(self, channels: int):
        super().__init__()
        self.rep_conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.rep_conv(x)


def pad_by(x: Tensor, value: Tensor) -> Tensor:
    """A border of one pixel that holds `value` in each channel."""
    value = value.view(1, -1, 1, 1)
    padded = F.pad(x, (1, 1, 1, 1))
    padded[:, :, :1, :] = value
    padded[:, :, -1:, :] = value
    padded[:, :, :, :1] = value
    padded[:, :, :, -1:] = value
    return padded


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 2, 1)
        self.fc2 = nn.Conv2d(channels // 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * self.fc2(self.fc1(mean).relu()).sigmoid()


class FeedForward(nn.Module):
    """Channel mixer, with its own input added."""

    def __init__(self, channels: int):
        super().__init__()
        self.ffn = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1), nn.GELU(), nn.Conv2d(2 * channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.ffn(x)


class Block(nn.Module):
    """Mixes pixels, gates channels, mixes channels."""

    def __init__(self, channels: int, mixer: type[nn.Module]):
        super().__init__()
        self.token_mixer = mixer(channels)
        self.attn = Gate(channels)
        self.channel_mixer = FeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.channel_mixer(self.attn(self.token_mixer(x)))


class RVSR(nn.Module):
    """Four times super-resolution with 16 channels and 8 blocks."""

    def __init__(self, mixer: type[nn.Module]):
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1))
        self.body = nn.Sequential(*(Block(16, mixer) for _ in range(8)))
        self.tail = nn.Sequential(mixer(16), nn.Conv2d(16, 48, 1))

    def forward(self, image: Tensor) -> Tensor:
        features = self.head(image)
        residual = F.pixel_shuffle(self.tail(self.body(features) + features), 4)
        return residual + F.interpolate(image, scale_factor=4.0, mode="bilinear")
