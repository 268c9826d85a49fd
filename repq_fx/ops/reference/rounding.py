"""Rounding modes, and the random numbers of the stochastic one, as all kernels define them."""

from enum import IntEnum

import torch
from torch import Tensor

_LOW = 2**32 - 1


class Rounding(IntEnum):
    """How a value between two levels chooses one.

    `HALF_UP` is `floor(x + 0.5)`, which the code of CFWS uses. `STOCHASTIC` rounds up with the
    probability of the distance from the lower level, so that the mean of many roundings is the
    value itself.
    """

    NEAREST_EVEN = 0
    HALF_UP = 1
    FLOOR = 2
    STOCHASTIC = 3


def check_rounding(op: str, rounding: int) -> None:
    """Reject what is no rounding mode, in the words of csrc/common/rounding.h."""
    if not 0 <= rounding <= max(Rounding):
        raise ValueError(f"{op}: expected rounding from 0 to {max(Rounding):d}, got {rounding:d}")


def round_levels(scaled: Tensor, rounding: int, seed: int) -> Tensor:
    """`scaled`, float32, as integers in float32; an infinity and a NaN stay."""
    if rounding == Rounding.NEAREST_EVEN:
        return scaled.round()
    if rounding == Rounding.HALF_UP:
        return (scaled + 0.5).floor()
    below = scaled.floor()
    if rounding == Rounding.FLOOR:
        return below
    # The difference is exact, so that an integer never moves.
    return torch.where(uniform_like(scaled, seed) < scaled - below, below + 1, below)


def uniform_like(values: Tensor, seed: int) -> Tensor:
    """Float32 from 0 to below 1 for each position in memory of `values`, or its dense copy."""
    words = _philox(seed, torch.arange((values.numel() + 3) // 4, device=values.device))
    in_memory = (words.flatten() >> 8).float() * 2.0**-24
    return in_memory.as_strided(values.shape, torch.empty_like(values).stride())


def _philox(seed: int, counter: Tensor) -> Tensor:
    """Philox4x32-10 of Salmon et al., 2011: the four words of each counter, int64 `[counters, 4]`.

    A product of two words may wrap to a negative int64, whose bits are the right ones.
    """
    key = [seed & _LOW, (seed >> 32) & _LOW]
    words = [counter & _LOW, counter >> 32, torch.zeros_like(counter), torch.zeros_like(counter)]
    for _ in range(10):
        first, second = 0xD2511F53 * words[0], 0xCD9E8D57 * words[2]
        words = [
            ((second >> 32) & _LOW) ^ words[1] ^ key[0],
            second & _LOW,
            ((first >> 32) & _LOW) ^ words[3] ^ key[1],
            first & _LOW,
        ]
        key = [(key[0] + 0x9E3779B9) & _LOW, (key[1] + 0xBB67AE85) & _LOW]
    return torch.stack(words, dim=1)
