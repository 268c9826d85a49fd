"""Integrals of the quantization error over one side of a histogram: the reference's arithmetic.

The docstring of `range_losses` says why they are formed from the edges of the bins.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

# Up to this many ends of grids are evaluated one by one; tails of more are interpolated.
DIRECT_ENDS = 1024
LATTICE = 256
# Scales and ends evaluated together: their edges fit a processor's cache.
_BLOCK = 32


@dataclass(frozen=True)
class Side:
    """The data on one side of zero, mirrored to be positive, in bins of width 1.

    Attributes:
        counts: ``[bins + 2]``; the last two are 0.
        edges: ``[n]``, ascending from 1 to `bins`: where the density changes.
        falls: ``[n]``, by how much the density falls there.
        edges_up_to: int64 ``[bins + 1]``, how many edges are at most k.
        mass, first, second: ``[bins + 2]``, integrals of ``(x - k) ** m`` over the data beyond k,
            for m = 0, 1 and 2, and a 0.
    """

    counts: Tensor
    edges: Tensor
    falls: Tensor
    edges_up_to: Tensor
    mass: Tensor
    first: Tensor
    second: Tensor

    @staticmethod
    def of(counts: Tensor) -> "Side":
        """The side with `counts`, float64, nearest to zero first."""
        falls = -pad(counts, (0, 1)).diff()
        changing = falls.nonzero().flatten()
        mass = _sums_from_the_end(counts)
        first = _sums_from_the_end(mass[1:-1] + counts / 2.0)
        second = _sums_from_the_end(2.0 * first[1:-1] + mass[1:-1] + counts / 3.0)
        edges_up_to = pad((falls != 0).cumsum(0), (1, 0))
        edges, falls = (changing + 1).double(), falls[changing]
        return Side(pad(counts, (0, 2)), edges, falls, edges_up_to, mass, first, second)

    @property
    def bins(self) -> int:
        """How many there are."""
        return len(self.counts) - 2


def _sums_from_the_end(values: Tensor) -> Tensor:
    return pad(values.flip(0).cumsum(0).flip(0), (0, 2))


def integrals_of_side(side: Side, scales: Tensor, reaches: Tensor, power: float | None) -> Tensor:
    """``[integrals, s, z]`` with `reaches` ``[s, z]``, levels of the grid on this side of zero."""
    tail = _tail_of(side, power, reaches.numel())
    parts = [reaches.new_empty((1 if power else 2, 0, reaches.shape[1]), dtype=torch.float64)]
    for scale, reach in zip(scales[:, None].split(_BLOCK), reaches.split(_BLOCK), strict=True):
        position = scale * reach
        bins = position.clamp(max=side.bins).long()
        last = side.edges_up_to[bins]
        reached = int(last.max()) if last.numel() else 0
        inner = _inside(side.edges[:reached] * (1.0 / scale), power).mul_(side.falls[:reached])
        sums = pad(inner.cumsum(-1), (1, 0)).gather(-1, last.expand(len(inner), *last.shape))
        sums += side.counts[bins] * _inside(reach.double(), power)
        parts.append(sums * _units(scale, power) + tail(position))
    return torch.cat(parts, dim=1)


def _inside(position: Tensor, power: float | None) -> Tensor:
    """Integrals from 0 to `position` on an endless grid of scale 1: ``[integrals, ...]``."""
    steps = torch.round(position)
    offset = position - steps
    if power is None:  # Of (x - y) y and of y y, where y is what x is quantized to.
        squares = steps * (steps * (offset + steps * (1.0 / 3.0)) + 1.0 / 6.0)
        return torch.stack((steps * (offset * offset - 0.25), squares))
    if power == 1.0:
        partial = offset * offset.abs()
    elif power == 2.0:
        partial = offset * offset * offset
    else:
        partial = offset.abs().pow(power + 1.0).copysign(offset)
    step: float = 2.0**-power  # 2 * 0.5 ** (power + 1)
    return (partial + steps * step)[None]


def _units(scale: Tensor, power: float | None) -> Tensor:
    """What the integrals inside are multiplied by: ``[integrals, *shape of scale]``."""
    if power is None:
        cube = scale * scale * scale
        return torch.stack((cube / 2.0, cube))
    if power == 1.0:
        return (scale * scale / 2.0)[None]
    if power == 2.0:
        return (scale * scale * scale / 3.0)[None]
    return (scale.pow(power + 1.0) / (power + 1.0))[None]


def _tail_of(side: Side, power: float | None, ends: int) -> Callable[[Tensor], Tensor]:
    """A function for what the data beyond ends of grids adds: ``[integrals, *shape of the ends]``.

    It will be asked for so many `ends`.
    """
    if power is None:
        return lambda end: _cosine_tails(side, end)
    if power in (1.0, 2.0):
        return lambda end: _moments_beyond(side, end)[int(power)][None]
    if ends <= DIRECT_ENDS:
        return lambda end: _tails_and_slopes(side, end.flatten(), power)[0].view_as(end)[None]
    points = (torch.arange(LATTICE + 1, dtype=torch.float64) / LATTICE).square() * side.bins
    values, slopes = _tails_and_slopes(side, points, power)

    def interpolate(end: Tensor) -> Tensor:
        end = end.clamp(max=side.bins)
        left = ((end / side.bins).sqrt() * LATTICE).long().clamp_(max=LATTICE - 1)
        right = left + 1
        width = points[right] - points[left]
        u = (end - points[left]) / width
        v = 1.0 - u
        here = values[left] * (1.0 + 2.0 * u) + slopes[left] * width * u
        there = values[right] * (1.0 + 2.0 * v) - slopes[right] * width * v
        return (here * v * v + there * u * u)[None]

    return interpolate


def _moments_beyond(side: Side, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Integrals of ``(x - end) ** m`` over the data beyond, for m = 0, 1 and 2."""
    end = end.clamp(max=side.bins)
    bins = end.long()
    density, rest = side.counts[bins], bins + 1 - end
    mass, first, second = (each[bins + 1] for each in (side.mass, side.first, side.second))
    return (
        mass + density * rest,
        first + (rest * mass + density * rest * rest / 2.0),
        second + (2.0 * rest * first + (rest * rest * mass + density * rest * rest * rest / 3.0)),
    )


def _cosine_tails(side: Side, end: Tensor) -> Tensor:
    """Beyond the end of the grid, y is constant."""
    mass, first, _ = _moments_beyond(side, end)
    return torch.stack((end * first, end * end * mass))


def _tails_and_slopes(side: Side, ends: Tensor, power: float) -> tuple[Tensor, Tensor]:
    """Integrals of ``(x - end) ** power`` over the data beyond, and their slopes."""
    values, slopes = torch.zeros_like(ends), torch.zeros_like(ends)
    for start in range(0, len(ends), _BLOCK):
        rows = slice(start, start + _BLOCK)
        excess = (side.edges - ends[rows, None]).clamp_(min=0.0)
        powers = excess.pow(power)
        slopes[rows] = -(powers @ side.falls)
        values[rows] = (powers.mul_(excess) @ side.falls) / (power + 1.0)
    return values, slopes
