"""Gradients of the network's outputs at the outputs of a part (BRECQ, eq. 10)."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule

from .part_data import NetworkData
from .rest_of_network import RestOfNetwork
from .unit import Unit


class OutputGradients:
    """Runs what follows a part in float, and differentiates the distance of the network's outputs.

    The distance is the Kullback-Leibler divergence of class scores ``[N, classes]``, and half the
    squared error of any other output. Its gradient is taken where the part's quantized outputs have
    taken the place of the exact ones.

    Args:
        behind: What follows the parts.
        data: The values that can be stored.
    """

    def __init__(self, behind: RestOfNetwork, data: NetworkData) -> None:
        self._behind, self._data = behind, data

    def at(
        self, unit: Unit, finished: Iterable[Unit], part: GraphModule, images: Tensor
    ) -> list[Tensor]:
        """Gradients at the outputs of `unit` for some images.

        Args:
            unit: The part.
            finished: It and the parts before it.
            part: Computes its quantized outputs.
            images: Indices.
        """
        rest, names = self._behind.after(finished)
        with torch.no_grad():
            outputs = part(*self._data.quantized(unit.inputs, images))
            exact = dict(zip(names, self._data.exact(names, images), strict=True))
            wanted = rest(*exact.values())
        with torch.enable_grad():
            replaced = {
                name: output.detach().requires_grad_()
                for name, output in zip(unit.outputs, outputs, strict=True)
            }
            found = rest(*(replaced.get(name, exact[name]) for name in names))
            distances = [_distance(*pair) for pair in zip(found, wanted, strict=True)]
            distance = torch.stack(distances).sum()
            gradients = torch.autograd.grad(distance, list(replaced.values()), allow_unused=True)
        return [
            torch.zeros_like(value) if gradient is None else gradient
            for value, gradient in zip(replaced.values(), gradients, strict=True)
        ]


def _distance(found: Tensor, wanted: Tensor) -> Tensor:
    if wanted.dim() == 2:
        logs = F.log_softmax(found, 1), F.log_softmax(wanted, 1)
        return F.kl_div(*logs, reduction="sum", log_target=True)
    return (found - wanted).square().sum() / 2
