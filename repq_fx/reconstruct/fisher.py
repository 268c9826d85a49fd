"""Gradients of the network's outputs at the outputs of a part (BRECQ, eq. 10)."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule, Node

from .part_data import NetworkData
from .stored_tensors import StoredTensors
from .unit import Unit, called_values, part_of_graph


class OutputGradients:
    """Runs what follows a part in float, and differentiates the distance of the network's outputs.

    The distance is the Kullback-Leibler divergence of class scores ``[N, classes]``, and half the
    squared error of any other output. Its gradient is taken where the part's quantized outputs have
    taken the place of the exact ones.

    Args:
        original: The float network.
        stored: Which of its values can be stored.
        data: Those that are.
    """

    def __init__(self, original: GraphModule, stored: StoredTensors, data: NetworkData) -> None:
        self._data, self._stored = data, stored
        self._nodes: list[Node] = list(original.graph.nodes)
        self._values = called_values(original, original.graph)
        returned = self._nodes[-1].all_input_nodes
        self._ends = [node for node in returned if stored.holds(node)]

    def needed(self, finished: Iterable[Unit]) -> set[str]:
        """What is read of the values of the parts that are finished."""
        known = {node.name for unit in finished for node in unit.nodes}
        return {node.name for node in self._behind(known)[1]}

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
        known = {node.name for other in finished for node in other.nodes}
        nodes, read = self._behind(known)
        names = [node.name for node in read]
        ends = [node.name for node in self._ends]
        rest = part_of_graph(nodes, names, ends, self._values)
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

    def _behind(self, known: set[str]) -> tuple[list[Node], list[Node]]:
        """The nodes that lead to the network's outputs, and the known values that they read."""
        needed: set[Node] = set()
        read: dict[Node, None] = {}
        pending = list(self._ends)
        while pending:
            node = pending.pop()
            is_known = node.name in known or node.op == "placeholder"
            if is_known and (node.op == "placeholder" or self._stored.holds(node)):
                read[node] = None
            elif node not in needed:
                needed.add(node)
                pending += node.all_input_nodes
        return [n for n in self._nodes if n in needed], list(read)


def _distance(found: Tensor, wanted: Tensor) -> Tensor:
    if wanted.dim() == 2:
        logs = F.log_softmax(found, 1), F.log_softmax(wanted, 1)
        return F.kl_div(*logs, reduction="sum", log_target=True)
    return (found - wanted).square().sum() / 2
