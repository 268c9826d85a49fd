"""Ranges judged by what comes out of the layers that read them.

The search of EasyQuant (arXiv 2006.16669), with the squared error of the outputs in place of their
cosine, which cannot see a damped signal.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..quant import ActivationObserver, AffineParameters

# EasyQuant goes from 0.5 to 2; so far from the rule's choice a few images do not speak for others.
_FACTORS = (1.0, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.2)


def search_scale(
    observer: ActivationObserver,
    readers: Sequence[Callable[[Tensor], Tensor]],
    exact: Tensor,
    arriving: Tensor,
) -> AffineParameters:
    """Scale the range of `observer` for the smallest errors of what `readers` compute.

    Args:
        observer: Has a histogram, from which its rule chooses the range to begin with.
        readers: The float layers that read the tensor. Their squared errors count relative to the
            energy of their outputs.
        exact: The tensor in the float network.
        arriving: The tensor in the network quantized so far.
    """
    outputs = [reader(exact) for reader in readers]
    energies = [_energy(output) for output in outputs]

    def loss_of(parameters: AffineParameters) -> float:
        rounded = observer.fake_quantize(arriving, parameters)
        return sum(
            _energy(reader(rounded) - output) / energy
            for reader, output, energy in zip(readers, outputs, energies, strict=True)
            if energy > 0
        )

    start = observer.parameters_of_range()
    return min((start.scaled(factor) for factor in _FACTORS), key=loss_of)


def _energy(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2
