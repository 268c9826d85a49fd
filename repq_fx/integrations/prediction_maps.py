"""A detector in two parts: the network, which is quantized, and its decoding, which stays as it is.

The repository's own detector gets our graph in place of its layers, and its own head with nothing
left to compute but the decoding. All that runs it, such as letterboxing, NMS and mAP, is unchanged.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from ..errors import RepqError, TraceError
from ..passes.graph.example import difference


class PredictionMaps(nn.Module):
    """A graph, as the layer of a detector that returns one map ``[N, C, H, W]`` for each level.

    Attributes:
        graph: Returns a tuple of maps, `per_level` for each level, which are concatenated by
            channel.
        image_size: Height and width, where the graph runs for no other; None where any will do.
    """

    def __init__(
        self, graph: GraphModule, per_level: int, image_size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.graph = graph
        self.per_level = per_level
        self.image_size = image_size

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map float images ``[N, 3, H, W]`` to a new list, which heads write to.

        Raises:
            RepqError: The images have another size than the only one that the graph runs for.
        """
        size = tuple(image.shape[-2:])
        if self.image_size is not None and size != self.image_size:
            needed, given = ("x".join(map(str, s)) for s in (self.image_size, size))
            raise RepqError(
                f"this network depends on the size of its images and was quantized for {needed}, "
                f"got {given}: use that size, without rectangular batches (rect=False)."
            )
        maps = self.graph(image)
        step = self.per_level
        return [torch.cat(maps[i : i + step], 1) for i in range(0, len(maps), step)]


class Channels(nn.Module):
    """Some channels of a map: what the last convolution of a head's branch has become."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, map: Tensor) -> Tensor:
        """Slice ``[N, C, H, W]`` to ``[N, stop - start, H, W]``, without a copy."""
        return map[:, self.start : self.stop]


def require_side(imgsz: Any, stride: int) -> None:
    """Check the side of square images.

    Raises:
        RepqError: `stride` does not divide it.
    """
    if not isinstance(imgsz, int) or imgsz < 1 or imgsz % stride:
        raise RepqError(f"imgsz must be a multiple of the stride {stride}, got {imgsz!r}.")


@torch.no_grad()
def only_image_size(
    graph: GraphModule, network: nn.Module, images: Tensor, stride: int
) -> tuple[int, int] | None:
    """The size of `images` if `graph` cannot do without it, by a trial on larger ones.

    Args:
        graph: `network` with its branches merged.
        network: Takes every size that `stride` divides.
        images: A batch that both take.
        stride: Of the coarsest level, in pixels.

    Raises:
        TraceError: The graph runs for no other number of images than the example had.
    """
    count, channels, height, width = images.shape
    if not _agree(graph, network, torch.rand(count + 1, channels, height, width)):
        raise TraceError(f"the trace of {type(network).__name__} runs for batches of {count} only.")
    larger = torch.rand(1, channels, height + stride, width)
    return None if _agree(graph, network, larger) else (height, width)


def _agree(graph: GraphModule, network: nn.Module, images: Tensor) -> bool:
    expected = network(images)
    try:
        return difference(expected, graph(images)) is None
    except RuntimeError:  # A view or a sum with what was computed for the example.
        return False
