"""The RepVGG training block: three parallel linear branches and one activation."""

from torch import Tensor, nn


def conv_bn(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int, groups: int
) -> nn.Sequential:
    """A bias-free "same" convolution followed by batch normalization."""
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding=kernel_size // 2,
        groups=groups,
        bias=False,
    )
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class RepVGGBlock(nn.Module):
    """``relu(bn(conv3x3(x)) + bn(conv1x1(x)) [+ bn(x)])``, the block of RepVGG (arXiv 2101.03697).

    The identity branch exists exactly when it can: equal widths and stride 1. The block does not
    merge itself; `repq_fx.reparameterize` does that for any model.

    Args:
        in_channels: Channels of the input ``[N, C, H, W]``.
        out_channels: Channels of the output.
        stride: Stride of both convolutions.
        groups: Groups of both convolutions.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.dense = conv_bn(in_channels, out_channels, 3, stride=stride, groups=groups)
        self.pointwise = conv_bn(in_channels, out_channels, 1, stride=stride, groups=groups)
        has_identity = in_channels == out_channels and stride == 1
        self.identity = nn.BatchNorm2d(in_channels) if has_identity else None
        self.relu = nn.ReLU()

    def forward(self, input: Tensor) -> Tensor:
        """Return ``[N, out_channels, ceil(H / stride), ceil(W / stride)]``."""
        total: Tensor = self.dense(input) + self.pointwise(input)
        if self.identity is not None:
            total = total + self.identity(input)
        activated: Tensor = self.relu(total)
        return activated
