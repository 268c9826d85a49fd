"""A model's outputs over a data set, and how right they are or how close to others."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from tqdm import tqdm


@torch.inference_mode()
def predict(
    model: Callable[[Tensor], Tensor],
    batches: Iterable[Tensor],
    *,
    label: str = "evaluate",
    progress: bool = True,
) -> Tensor:
    """Outputs of a model with one tensor output, concatenated over all batches, on the CPU."""
    bar = tqdm(batches, desc=label, unit="batch", disable=not progress, leave=False)
    return torch.cat([model(batch).cpu() for batch in bar])


def top1_accuracy(scores: Tensor, labels: Tensor) -> float:
    """Percentage of rows of ``[N, classes]`` whose largest entry is the label ``[N]``."""
    return 100.0 * (scores.argmax(1) == labels).float().mean().item()


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
