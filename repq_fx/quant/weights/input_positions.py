"""What the rows of a weight are multiplied with, at enough positions of all images."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Multiples of 1 / p and 1 / p^2, without their integers, fill the unit square evenly.
_PLASTIC = 1.32471795724474602596  # The real root of p^3 = p + 1.
# Neighbouring positions of an image tell nearly the same: so many in all, or so many for each
# entry of a row, give a second moment that more of them do not change (benchmarks/README.md).
_POSITIONS = 2**13
_POSITIONS_PER_ENTRY = 8
# What one product reads of the unfolded images: 32 MiB, and sums in float32 that lose little.
_VALUES_AT_ONCE = 2**23
_POSITIONS_AT_ONCE = 2**14


def point_in_square(index: int) -> tuple[float, float]:
    """A point of ``[0, 1) x [0, 1)``; the first of any number are spread over it evenly."""
    return index / _PLASTIC % 1, index / _PLASTIC**2 % 1


def columns_of(layer: nn.Conv2d | nn.Linear, input: Tensor) -> Iterator[Tensor]:
    """What the rows of the weight meet: ``[groups, k, positions]``, some images at a time.

    They are new tensors, which the caller may overwrite. Of an input with more positions than are
    needed, an even grid of each image is taken, shifted from one image to the next, so that borders
    count as they do among all.
    """
    if isinstance(layer, nn.Linear):
        rows = input.reshape(-1, layer.in_features)
        step = max(len(rows) // enough_positions(layer), 1)
        yield rows[::step].mT[None].clone()
        return
    images = input if input.dim() == 4 else input[None]
    steps = _steps(layer, images)
    count = _images_at_once(layer, images, steps)
    for start in range(0, len(images), count):
        chunk = [
            _unfold(layer, images[index : index + 1], steps, index)
            for index in range(start, min(start + count, len(images)))
        ]
        columns = torch.cat(chunk, 2)
        yield columns.reshape(layer.groups, -1, columns.shape[2])


def entries_met(layer: nn.Conv2d | nn.Linear, input: Tensor) -> Tensor:
    """Which entries of a row meet anything but zeros: bool ``[groups, k]``.

    An entry does if its channel holds a value somewhere, and its tap does not lie in the padding at
    every position.
    """
    channel = input.dim() - (3 if isinstance(layer, nn.Conv2d) else 1)
    others = [axis for axis in range(input.dim()) if axis != channel]
    is_met = (input.amax(others) != 0) | (input.amin(others) != 0) if others else input != 0
    if isinstance(layer, nn.Linear):
        return is_met[None]
    pixels = torch.ones(1, 1, *input.shape[-2:], device=input.device)
    taps = (_unfold(layer, pixels, (1, 1), 0) != 0).any(2)
    return (is_met[:, None] & taps).reshape(layer.groups, -1)


def enough_positions(layer: nn.Conv2d | nn.Linear) -> int:
    """How many positions tell as much about the inputs of `layer` as all do."""
    return max(_POSITIONS, _POSITIONS_PER_ENTRY * layer.weight[0].numel())


def _unfold(layer: nn.Conv2d, image: Tensor, steps: tuple[int, int], index: int) -> Tensor:
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(image, layer._reversed_padding_repeated_twice, mode=mode)
    row, column = (
        int(share * step) for share, step in zip(point_in_square(index), steps, strict=True)
    )
    strides = (layer.stride[0] * steps[0], layer.stride[1] * steps[1])
    shifted = padded[:, :, row * layer.stride[0] :, column * layer.stride[1] :]
    return F.unfold(shifted, layer.kernel_size, layer.dilation, 0, strides)


def _steps(layer: nn.Conv2d, images: Tensor) -> tuple[int, int]:
    """Every how many rows and columns of the output are taken."""
    rows, columns = _output_size(layer, images)
    surplus = len(images) * rows * columns / enough_positions(layer)
    down = min(max(math.isqrt(int(surplus)), 1), rows)
    across = min(max(int(surplus / down), 1), columns)
    return min(max(int(surplus / across), 1), rows), across


def _images_at_once(layer: nn.Conv2d, images: Tensor, steps: tuple[int, int]) -> int:
    rows, columns = _output_size(layer, images)
    positions = -(-rows // steps[0]) * -(-columns // steps[1])
    values = positions * layer.groups * layer.weight[0].numel()
    return max(min(_VALUES_AT_ONCE // values, _POSITIONS_AT_ONCE // positions), 1)


def _output_size(layer: nn.Conv2d, images: Tensor) -> tuple[int, int]:
    left, right, top, bottom = layer._reversed_padding_repeated_twice
    padded = (images.shape[2] + top + bottom, images.shape[3] + left + right)
    rows, columns = (
        (size - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, dilation, stride in zip(
            padded, layer.kernel_size, layer.dilation, layer.stride, strict=True
        )
    )
    return rows, columns
