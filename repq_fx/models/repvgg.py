"""RepVGG in training form: the paper's A0 and small variants for 28- and 32-pixel images."""

from collections.abc import Sequence

from torch import Tensor, nn

from ..nn import RepVGGBlock


class RepVGG(nn.Module):
    """A plain chain of `RepVGGBlock` with a linear classifier (arXiv 2101.03697).

    Args:
        widths: Output channels of the stem block and of every stage.
        depths: Blocks of every stage, one entry fewer than `widths`; the first block of a stage
            has stride 2.
        classes: Number of logits.
        in_channels: Channels of the image.
        stem_stride: 2 for ImageNet-sized images, 1 for small ones.

    Raises:
        ValueError: `widths` is not one entry longer than `depths`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        *,
        classes: int,
        in_channels: int = 3,
        stem_stride: int = 2,
    ) -> None:
        super().__init__()
        if len(widths) != len(depths) + 1:
            raise ValueError(
                f"RepVGG needs one width for the stem and one per stage, "
                f"got {len(widths)} widths for {len(depths)} stages."
            )
        self.stem = RepVGGBlock(in_channels, widths[0], stride=stem_stride)
        stages = [
            _stage(width_in, width_out, depth)
            for width_in, width_out, depth in zip(widths[:-1], widths[1:], depths, strict=True)
        ]
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``[N, in_channels, H, W]`` to logits ``[N, classes]``."""
        features = self.pool(self.stages(self.stem(image)))
        logits: Tensor = self.classifier(self.flatten(features))
        return logits


def _stage(in_channels: int, out_channels: int, depth: int) -> nn.Sequential:
    first = RepVGGBlock(in_channels, out_channels, stride=2)
    return nn.Sequential(
        first, *(RepVGGBlock(out_channels, out_channels) for _ in range(depth - 1))
    )


def repvgg_a0(classes: int = 1000) -> RepVGG:
    """RepVGG-A0, 22 blocks, 1.36 GMACs at 224x224 after merging."""
    return RepVGG((48, 48, 96, 192, 1280), (2, 4, 14, 1), classes=classes)


def fashion_repvgg() -> RepVGG:
    """The network of ``repq demo``: 28x28 grey images, 10 classes."""
    return RepVGG((16, 32, 64, 128), (2, 4, 2), classes=10, in_channels=1, stem_stride=1)


def cifar_repvgg() -> RepVGG:
    """A RepVGG for 32x32 colour images, 10 classes."""
    return RepVGG((32, 32, 64, 96, 160), (2, 4, 6, 1), classes=10, stem_stride=1)
