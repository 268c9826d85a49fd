"""Ranges judged by what comes out of the layers that read them.

The search of EasyQuant (arXiv 2006.16669), with the squared error of the outputs in place of their
cosine, which cannot see a damped signal, and for both ends of a two-sided range.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from ..quant import ActivationObserver, AffineParameters, affine_parameters
from .representative import representative_part

# EasyQuant goes from 0.5 to 2; so far from the rule's choice a few images do not speak for others.
_FACTORS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2)
_MIDDLE = _FACTORS.index(1.0)
# Of a smaller one in float32 some squares may have been lost.
_SMALLEST_ENERGY = 1e-25


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
