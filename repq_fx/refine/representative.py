"""A part of a tensor that tells as much about its range as the whole."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..quant.weights.input_positions import point_in_square

# So many positions of all images, or tokens: a 32 x 32 tile of each of 32 images.
_POSITIONS = 2**15
# So many values, but of no fewer images.
_MOST_VALUES = 2**23
_FEWEST_IMAGES = 32
# A tile is so many times as wide as a kernel that reads it, so that its borders matter little.
_KERNELS_PER_TILE = 4


def representative_part(
    tensors: Sequence[Tensor], readers: Sequence[Callable[[Tensor], Tensor]]
) -> list[Tensor]:
    """The same part of each tensor: of every image one tile, each from another place.

    Args:
        tensors: Of one shape.
        readers: The layers that read them, which tell where channels are and how large a tile has
            to be. What they return for the part is what they return for the whole there, but for
            the borders of a tile.
    """
    first = tensors[0]
    parts = list(tensors)
    of_tokens = any(isinstance(reader, nn.Linear) for reader in readers)
    of_images = any(isinstance(reader, nn.Conv2d) for reader in readers)
    if of_tokens and not of_images and first.dim() > 2:
        step = max(first[..., 0].numel() // _POSITIONS, 1)
        parts = [tensor.flatten(1, -2)[:, ::step] for tensor in parts]
    elif first.dim() == 4 and not of_tokens:  # With both kinds, every axis holds channels of one.
        side = math.isqrt(_POSITIONS // len(first))
        side = max(side, *(_KERNELS_PER_TILE * _extent(reader) for reader in readers))
        parts = [_tiles(tensor, side) for tensor in parts]
    if parts[0].numel() > _MOST_VALUES and first.dim():
        few = max(_FEWEST_IMAGES, _MOST_VALUES * len(first) // parts[0].numel())
        parts = [part[:few] for part in parts]
    return parts


def _extent(reader: Callable[[Tensor], Tensor]) -> int:
    if not isinstance(reader, nn.Conv2d):
        return 1
    sizes = zip(reader.kernel_size, reader.dilation, strict=True)
    return max(dilation * (kernel - 1) + 1 for kernel, dilation in sizes)


def _tiles(images: Tensor, side: int) -> Tensor:
    height, width = min(side, images.shape[2]), min(side, images.shape[3])
    if (height, width) == images.shape[2:]:
        return images
    tiles = []
    for index, image in enumerate(images):
        down, across = point_in_square(index)
        top = int(down * (images.shape[2] - height + 1))
        left = int(across * (images.shape[3] - width + 1))
        tiles.append(image[:, top : top + height, left : left + width])
    return torch.stack(tiles)
