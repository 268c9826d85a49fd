"""What quantizing the data of a histogram costs, as exact integrals over its bins.

Data is taken as spread evenly within each bin. With F the antiderivative of some function of the
error, a bin ``[a, b)`` of n values contributes ``n * (F(b) - F(a)) / (b - a)``, so the sum over all
bins needs F at the edges only, each times the fall of the density there. Rounding to a multiple of
the scale makes F periodic up to the end of the grid, whatever the zero point: prefix sums over the
edges give the cost of every zero point at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from .histogram import TensorHistogram

# Scales evaluated together: their edges fit a processor's cache.
_BLOCK = 32
# Up to this many ends of a grid are evaluated one by one; more are interpolated.
_DIRECT_ENDS = 1024
_LATTICE = 256

# Takes the ends of grids and how many edges do not lie beyond each.
Tail = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Side:
    """The data on one side of zero, mirrored to be positive, in units of the histogram's span.

    Attributes:
        edges: float64 ``[n]``, ascending in ``(0, 1]``: where the density changes.
        falls: float64 ``[n]``, by how much the density falls there.
        edges_up_to: int64 ``[bins + 1]``, how many edges are at most ``k / bins``.
    """

    edges: Tensor
    falls: Tensor
    edges_up_to: Tensor

    @staticmethod
    def of(counts: Tensor) -> "Side":
        """The side with `counts` in equal bins from zero to 1, nearest to zero first."""
        bins = len(counts)
        falls = -pad(counts, (0, 1)).diff()
        changing = falls.nonzero().flatten()
        return Side(
            (changing + 1).double() / bins,
            falls[changing].double() * bins,
            pad((falls != 0).cumsum(0), (1, 0)),
        )

    def reached_by(self, ends: Tensor) -> Tensor:
        """How many edges do not lie beyond each end: int64, shaped like `ends`."""
        bins = len(self.edges_up_to) - 1
        return self.edges_up_to[(ends * bins).clamp_(max=bins).long()]

    def beyond(self, order: int) -> Tensor:
        """Sums of ``falls * edges ** order`` over all but the first k edges, ``[n + 1]``."""
        return pad((self.falls * self.edges**order).flip(0).cumsum(0).flip(0), (0, 1))


def sides_of(histogram: TensorHistogram) -> tuple[Side, Side]:
    """The negative and the positive data, without the exact zeros, which every grid holds."""
    below, above = histogram.counts.split(histogram.bins_per_side)
    above = above.clone()
    above[0] -= histogram.zeros
    return Side.of(below.flip(0)), Side.of(above)


class QuantizationError(Protocol):
    """A measure of error that is formed from one or more integrals over the data."""

    def inside(self, edges: Tensor, scale: Tensor) -> Tensor:
        """Integrals from 0 to `edges` on an endless grid: ``[integrals, *broadcast shape]``."""
        ...

    def tail(self, side: Side, ends: int) -> Tail:
        """A function for what the data beyond the end of a grid adds, ``[integrals, *ends shape]``.

        It will be asked for so many `ends`.
        """
        ...

    def combine(self, integrals: Tensor, sides: tuple[Side, Side]) -> Tensor:
        """The error, from the integrals ``[integrals, ...]`` over both sides."""
        ...


def integrals_of_side(
    error: QuantizationError, side: Side, scales: Tensor, reaches: Tensor
) -> Tensor:
    """Integrals over one side, ``[integrals, s, r]``.

    Args:
        error: What to integrate.
        side: The data.
        scales: ``[s]``, in units of the histogram's span; descending ones are fastest.
        reaches: Levels of the grid on this side of zero, ``[r]`` or ``[s, r]``.
    """
    ends = scales[:, None] * reaches
    beyond, tail = side.beyond(0), error.tail(side, ends.numel())
    parts = []
    for scale, end in zip(scales[:, None].split(_BLOCK), ends.split(_BLOCK), strict=True):
        last = side.reached_by(end)
        reached = int(last.max())
        inner = error.inside(side.edges[:reached], scale).mul_(side.falls[:reached])
        sums = pad(inner.cumsum(-1), (1, 0)).gather(-1, last.expand(len(inner), *last.shape))
        parts.append(sums + error.inside(end, scale) * beyond[last] + tail(end, last))
    return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class PowerError:
    """The sum of ``|x - y| ** power`` over all values x and what they are quantized to, y."""

    power: float

    def inside(self, edges: Tensor, scale: Tensor) -> Tensor:
        """Each whole step adds ``2 * (scale / 2) ** (power + 1) / (power + 1)``."""
        order = self.power + 1.0
        steps = torch.round(edges * (1.0 / scale))
        offset = edges - steps * scale
        partial = offset.abs().pow_(order).copysign_(offset)
        return (partial + steps * (2.0 * (scale / 2.0) ** order)).div_(order)[None]

    def tail(self, side: Side, ends: int) -> Tail:
        """``(edge - end) ** (power + 1) / (power + 1)``, summed.

        The sums for many ends come from those on a lattice, which is denser towards zero, and from
        their slopes by cubic interpolation.
        """
        if ends <= _DIRECT_ENDS:
            return lambda end, _: self._tails_and_slopes(side, end.flatten())[0].view_as(end)[None]
        points = (torch.arange(_LATTICE + 1, dtype=torch.float64) / _LATTICE).square()
        values, slopes = self._tails_and_slopes(side, points)

        def interpolate(end: Tensor, _: Tensor) -> Tensor:
            end = end.clamp(max=1.0)
            left = (end.sqrt() * _LATTICE).long().clamp_(max=_LATTICE - 1)
            right = left + 1
            width = points[right] - points[left]
            u = (end - points[left]) / width
            v = 1.0 - u
            here = values[left] * (1.0 + 2.0 * u) + slopes[left] * width * u
            there = values[right] * (1.0 + 2.0 * v) - slopes[right] * width * v
            return (here * v * v + there * u * u)[None]

        return interpolate

    def combine(self, integrals: Tensor, sides: tuple[Side, Side]) -> Tensor:  # noqa: ARG002
        """The only integral."""
        return integrals[0]

    def _tails_and_slopes(self, side: Side, ends: Tensor) -> tuple[Tensor, Tensor]:
        values, slopes = torch.zeros_like(ends), torch.zeros_like(ends)
        for start in range(0, len(ends), _BLOCK):
            rows = slice(start, start + _BLOCK)
            first = int(side.reached_by(ends[rows].min()))
            excess = (side.edges[first:] - ends[rows, None]).clamp_(min=0.0)
            powers = excess.pow(self.power)
            slopes[rows] = -(powers @ side.falls[first:])
            values[rows] = (powers.mul_(excess) @ side.falls[first:]) / (self.power + 1.0)
        return values, slopes


@dataclass(frozen=True)
class CosineError:
    """One minus the cosine of the data x and what it is quantized to, y; from xy and yy."""

    def inside(self, edges: Tensor, scale: Tensor) -> Tensor:
        """Up to level k, both integrals are ``scale ** 3`` times the squares up to ``k - 1``."""
        level = torch.round(edges * (1.0 / scale))
        value = level * scale
        start = value - scale / 2.0
        whole = scale**3 * ((level - 1.0) * level * (2.0 * level - 1.0) / 6.0)
        products = value * (edges * edges - start * start) / 2.0
        squares = value * value * (edges - start)
        return torch.stack((whole + products, whole + squares))

    def tail(self, side: Side, ends: int) -> Tail:  # noqa: ARG002
        """Beyond the grid y is constant, so moments of the data suffice."""
        moments = [side.beyond(order) for order in range(3)]

        def from_moments(end: Tensor, index: Tensor) -> Tensor:
            mass, first, second = (moment[index] for moment in moments)
            products = end * (second - end * end * mass) / 2.0
            squares = end * end * (first - end * mass)
            return torch.stack((products, squares))

        return from_moments

    def combine(self, integrals: Tensor, sides: tuple[Side, Side]) -> Tensor:
        """1 where everything is quantized to zero."""
        energy = sum(float(side.falls @ side.edges**3) for side in sides) / 3.0
        products, squares = integrals
        cosine = products / (energy * squares).sqrt()
        return 1.0 - torch.where((squares > 0.0) & (energy > 0.0), cosine, 0.0)
