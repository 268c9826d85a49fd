"""A model's outputs over a data set."""

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
