"""How far the outputs of a part are from those of the float network."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Fisher:
    """Squared errors weighted by the squared gradient of the network's loss (BRECQ, eq. 10).

    The diagonal of the Fisher information at each output stands in for how much an error there
    matters for the network's own outputs.
    """

    power: float = field(default=2.0, init=False)


def output_error(
    outputs: Sequence[Tensor],
    targets: Sequence[Tensor],
    sizes: Sequence[float],
    power: float,
    weights: Sequence[Tensor | None],
) -> Tensor:
    """Sum over channels of ``mean(weight * |output - target| ** power)``, relative to `sizes`.

    Args:
        outputs: ``[N, C, ...]`` each.
        targets: As `outputs`.
        sizes: Mean of ``|target| ** power`` over all images.
        power: Of the errors.
        weights: As `outputs`, or None for 1.
    """
    total = outputs[0].new_zeros(())
    for output, target, size, weight in zip(outputs, targets, sizes, weights, strict=True):
        channels = output.shape[1] if output.dim() > 1 else 1
        total = total + _mean_error(output, target, power, weight) * (channels / size)
    return total


def _mean_error(output: Tensor, target: Tensor, power: float, weight: Tensor | None) -> Tensor:
    if weight is not None:
        return ((output - target).abs().pow(power) * weight).mean()
    if power == 2:
        return F.mse_loss(output, target)
    if power == 1:
        return F.l1_loss(output, target)
    return (output - target).abs().pow(power).mean()


def size_of(target: Tensor, power: float) -> Tensor:
    """Mean of ``|target| ** power``."""
    return target.abs().pow(power).mean()
