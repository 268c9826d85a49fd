"""How close a quantized model's output is to the float model's."""

import math

from torch import Tensor


def sqnr_db(reference: Tensor, approximation: Tensor) -> float:
    """Signal-to-quantization-noise ratio in decibels; ``inf`` for equal tensors.

    ``10 log10(sum(reference**2) / sum((reference - approximation)**2))`` over tensors of one shape.
    """
    signal = reference.double().square().sum().item()
    noise = (reference.double() - approximation.double()).square().sum().item()
    if noise == 0.0:
        return math.inf
    return -math.inf if signal == 0.0 else 10.0 * math.log10(signal / noise)


def agreement(reference: Tensor, approximation: Tensor) -> float:
    """Percentage of rows of two ``[N, classes]`` score tensors with the same largest entry."""
    return 100.0 * (reference.argmax(1) == approximation.argmax(1)).float().mean().item()
