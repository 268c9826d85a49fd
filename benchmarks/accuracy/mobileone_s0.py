"""MobileOne-S0 in deploy form, with the names of Apple's merged checkpoint."""

from collections.abc import Iterator

from torch import nn

_STAGES = ((48, 2), (128, 8), (256, 10), (1024, 1))  # output channels, blocks


class MergedConv(nn.Module):
    """One merged convolution and its ReLU."""

    def __init__(self, in_channels, out_channels, kernel_size, *, stride=1, groups=1):
        super().__init__()
        self.reparam_conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups
        )
        self.relu = nn.ReLU()

    def forward(self, input):
        return self.relu(self.reparam_conv(input))


class MobileOneS0(nn.Module):
    """Depthwise 3x3 and pointwise 1x1 in turn (arXiv 2206.04040), 2.08 M parameters."""

    def __init__(self):
        super().__init__()
        self.stage0 = MergedConv(3, 48, 3, stride=2)
        channels = 48
        for index, (out_channels, blocks) in enumerate(_STAGES, start=1):
            layers = list(_blocks(channels, out_channels, blocks))
            self.add_module(f"stage{index}", nn.Sequential(*layers))
            channels = out_channels
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(channels, 1000)

    def forward(self, image):
        features = self.stage2(self.stage1(self.stage0(image)))
        features = self.stage4(self.stage3(features))
        return self.linear(self.flatten(self.pool(features)))


def _blocks(channels: int, out_channels: int, blocks: int) -> Iterator[nn.Module]:
    for block in range(blocks):
        stride = 2 if block == 0 else 1
        yield MergedConv(channels, channels, 3, stride=stride, groups=channels)
        yield MergedConv(channels, out_channels, 1)
        channels = out_channels


def mobileone_s0() -> nn.Module:
    """The factory for ``repq quantize benchmarks.accuracy.mobileone_s0:mobileone_s0``."""
    return MobileOneS0()
