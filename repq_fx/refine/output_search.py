"""Ranges judged by what comes out of the layers that read them.

The search of EasyQuant (arXiv 2006.16669), with the squared error of the outputs in place of their
cosine, which cannot see a damped signal, and for both ends of a two-sided range. It reads a part of
each tensor that tells as much about its range as the whole.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor, nn

from ..quant import ActivationObserver, AffineParameters, affine_parameters
from ..quant.weights.input_positions import point_in_square

# EasyQuant goes from 0.5 to 2; so far from the rule's choice a few images do not speak for others.
_FACTORS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2)
_MIDDLE = _FACTORS.index(1.0)
# Of a smaller one in float32 some squares may have been lost.
_SMALLEST_ENERGY = 1e-25
# So many positions of all images, or tokens: a 32 x 32 tile of each of 32 images.
_POSITIONS = 2**15
# So many values, but of no fewer images.
_MOST_VALUES = 2**23
_FEWEST_IMAGES = 32
# A tile is so many times as wide as a kernel that reads it, so that its borders matter little.
_KERNELS_PER_TILE = 4


def search_range(
    observer: ActivationObserver,
    start: AffineParameters,
    readers: Sequence[Callable[[Tensor], Tensor]],
    exact: Tensor,
    arriving: Tensor,
) -> AffineParameters:
    """Scale the range of `observer` for the smallest errors of what `readers` compute.

    Both ends are scaled together, then the upper and the lower one alone, such as the short
    negative side of a SiLU.

    Args:
        observer: Of the tensor.
        start: The range to begin with.
        readers: The float layers that read the tensor. Their squared errors count relative to the
            energy of their outputs.
        exact: The tensor in the float network.
        arriving: The tensor in the network quantized so far.
    """
    exact, arriving = representative_part((exact, arriving), readers)
    outputs = [reader(exact) for reader in readers]
    energies = [_energy(output) for output in outputs]

    @cache
    def loss_of(parameters: AffineParameters) -> float:
        rounded = observer.fake_quantize(arriving, parameters)
        return sum(
            _energy(reader(rounded) - output) / energy
            for reader, output, energy in zip(readers, outputs, energies, strict=True)
            if energy > 0
        )

    best = _descend(loss_of, [start.scaled(factor) for factor in _FACTORS])
    for upper in (True, False):
        lowest, highest = best.real_range(observer.grid)
        if lowest < 0 < highest and not observer.plan.symmetric:
            ends = [(lowest, f * highest) if upper else (f * lowest, highest) for f in _FACTORS]
            others = [affine_parameters(*end, observer.grid, symmetric=False) for end in ends]
            others[_MIDDLE] = best
            best = _descend(loss_of, others)
    return best


def _descend(
    loss_of: Callable[[AffineParameters], float], candidates: Sequence[AffineParameters]
) -> AffineParameters:
    """From the middle candidate to where the loss rises again, on the side where it falls."""
    best = _MIDDLE
    for step in (-1, 1):
        if step == 1 and best != _MIDDLE:
            break
        while 0 <= best + step < len(candidates):
            if loss_of(candidates[best + step]) >= loss_of(candidates[best]):
                break
            best += step
    return candidates[best]


def _energy(values: Tensor) -> float:
    flat = values.reshape(-1)
    energy = float(flat @ flat)
    if _SMALLEST_ENERGY < energy < float("inf"):
        return energy
    # Squares leave float32; a conversion takes ten times as long.
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2


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
