"""The deploy forms that every tool is given; only torch, for its environment has no more."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.accuracy.mobileone_s0 import MobileOneS0


class MergedRepVGG(nn.Sequential):
    """The merged form of ``repq_fx.models.cifar_repvgg``: 3x3 convolutions and a classifier."""

    def __init__(self):
        widths, depths = (32, 32, 64, 96, 160), (2, 4, 6, 1)
        layers = OrderedDict(conv0=nn.Conv2d(3, widths[0], 3, padding=1), relu0=nn.ReLU())
        channels = widths[0]
        for width, depth in zip(widths[1:], depths, strict=True):
            for block in range(depth):
                index = len(layers) // 2
                stride = 2 if block == 0 else 1
                layers[f"conv{index}"] = nn.Conv2d(channels, width, 3, stride, padding=1)
                layers[f"relu{index}"] = nn.ReLU()
                channels = width
        layers.update(
            pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), classifier=nn.Linear(channels, 10)
        )
        super().__init__(layers)


class _Mixer(nn.Module):
    """Token mixer: the one convolution that its branches were merged into."""

    def __init__(self, channels: int):
        super().__init__()
        self.rep_conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        return self.rep_conv(input)


class _Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // 2, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(channels // 2, channels, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, input: Tensor) -> Tensor:
        return input * self.sigmoid(self.fc2(self.relu(self.fc1(self.pool(input)))))


class _FeedForward(nn.Module):
    """Channel mixer, with its own input added."""

    def __init__(self, channels: int):
        super().__init__()
        self.ffn = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 1), nn.GELU(), nn.Conv2d(2 * channels, channels, 1)
        )

    def forward(self, input: Tensor) -> Tensor:
        return input + self.ffn(input)


class _Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.token_mixer = _Mixer(channels)
        self.attn = _Gate(channels)
        self.channel_mixer = _FeedForward(channels)

    def forward(self, input: Tensor) -> Tensor:
        return self.channel_mixer(self.attn(self.token_mixer(input)))


class MergedRVSR(nn.Module):
    """RVSR x4 super-resolution, with the names of its authors' merged checkpoint.

    Modules in place of functions wherever there is a choice: several tools see only those.
    """

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1))
        self.body = nn.Sequential(*(_Block(16) for _ in range(8)))
        self.tail = nn.Sequential(_Mixer(16), nn.Conv2d(16, 48, 1))
        self.shuffle = nn.PixelShuffle(4)

    def forward(self, image: Tensor) -> Tensor:
        features = self.head(image)
        residual = self.shuffle(self.tail(self.body(features) + features))
        return residual + F.interpolate(image, scale_factor=4.0, mode="bilinear")


NETWORKS: dict[str, type[nn.Module]] = {
    "mobileone_s0": MobileOneS0,
    "cifar_repvgg": MergedRepVGG,
    "rvsr_x4": MergedRVSR,
}
