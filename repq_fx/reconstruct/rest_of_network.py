"""What follows the parts that are finished, in float, and what it makes of a part."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule, Node

from .losses import output_error, size_of
from .part_data import NetworkData
from .stored_tensors import StoredTensors
from .unit import Unit, called_values, part_of_graph

_TINY = torch.finfo(torch.float32).tiny


class RestOfNetwork:
    """The float network behind any number of its parts.

    Args:
        original: The float network.
        stored: Which of its values can be stored.
    """

    def __init__(self, original: GraphModule, stored: StoredTensors) -> None:
        self._stored = stored
        self._nodes: list[Node] = list(original.graph.nodes)
        self._values = called_values(original, original.graph)
        returned = self._nodes[-1].all_input_nodes
        self._ends = [node for node in returned if stored.holds(node)]

    def after(self, finished: Iterable[Unit]) -> tuple[GraphModule, list[str]]:
        """What computes the network's outputs, and the names of the values that it reads."""
        nodes, read = self._behind(finished)
        names = [node.name for node in read]
        ends = [node.name for node in self._ends]
        return part_of_graph(nodes, names, ends, self._values), names

    def needed(self, finished: Iterable[Unit]) -> set[str]:
        """The names of the values that are read behind `finished`."""
        return {node.name for node in self._behind(finished)[1]}

    def _behind(self, finished: Iterable[Unit]) -> tuple[list[Node], list[Node]]:
        """The nodes that lead to the network's outputs, and the known values that they read."""
        known = {node.name for unit in finished for node in unit.nodes}
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


class OutcomeOfPart:
    """The error that a part leaves in the network's outputs, with all behind it in float.

    Fitting a part to inputs that carry the noise of the parts before it damps the signal. That is
    good for the part's own squared error, on any images, and may be bad for what reads it.

    Args:
        behind: What follows the parts.
        data: The values that can be stored.
        unit: The part.
        finished: It and the parts before it.
        images: Indices of those that judge.
        batch: How many of them are run at once.
    """

    def __init__(
        self, behind: RestOfNetwork, data: NetworkData, unit: Unit, finished: Iterable[Unit],
        images: Tensor, batch: int,
    ) -> None:  # fmt: skip
        self._rest, self._names = behind.after(finished)
        self._data, self._unit, self._images, self._batch = data, unit, images, batch

    @torch.no_grad()
    def error(self, part: GraphModule) -> float:
        """Squared, relative to the outputs; zero for a network whose outputs cannot be stored."""
        total = 0.0
        for images in self._images.split(self._batch):
            outputs = part(*self._data.quantized(self._unit.inputs, images))
            replaced = dict(zip(self._unit.outputs, outputs, strict=True))
            others = [name for name in self._names if name not in replaced]
            known = dict(zip(others, self._data.quantized(others, images), strict=True)) | replaced
            found = self._rest(*(known[name] for name in self._names))
            wanted = self._rest(*self._data.exact(self._names, images))
            sizes = [max(float(size_of(value, 2.0)), _TINY) for value in wanted]
            if found:
                error = output_error(found, wanted, sizes, 2.0, [None] * len(found))
                total += float(error) * len(images)
        return total / len(self._images)


class OutputGradients:
    """Gradients of the network's outputs at the outputs of a part (BRECQ, eq. 10).

    What follows the part runs in float, and the distance of the outputs is differentiated: the
    Kullback-Leibler divergence of class scores ``[N, classes]``, and half the squared error of any
    other output. The gradient is taken where the part's quantized outputs have taken the place of
    the exact ones.

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
