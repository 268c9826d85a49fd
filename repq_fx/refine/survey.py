"""What a walk through a network will cost, from a run with one image."""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from torch.utils._pytree import tree_leaves

from ..quant import ActivationObserver
from ..quant.weights.input_positions import enough_positions

_LOGGER = logging.getLogger(__name__)
# A layer runs in the float network and in the quantized one, and about as often again for the
# ranges of what it reads.
_RUNS = 4
# A step of a factorization in float64 takes as long as so many multiplications in float32.
_FACTORIZATION = 2 / 3
# What a step may hold of a network's values at a time, and how many images it reads at least.
_MEMORY = 2 * 2**30
_FEWEST_IMAGES = 8
_BYTES = 4


@dataclass(frozen=True)
class Survey:
    """Sizes and costs of one image.

    Attributes:
        live_values: The most values that the network holds at one time.
        work: Of each layer under the name of its node, in multiplications: of its runs for one
            image, and of rounding its weight, which takes place once.
    """

    live_values: int
    work: dict[str, tuple[float, float]]

    @staticmethod
    def of(graph: GraphModule, inputs: tuple[Tensor, ...]) -> "Survey | None":
        """Run `graph` with the first image; None if it takes no single one.

        Its observers count nothing, and what it overwrites in place is a copy.
        """
        if any(value.dim() == 0 for value in inputs):
            return None
        run = _Run(graph)
        try:
            with torch.no_grad():
                run.run(*(value[:1].clone() for value in inputs))
        except Exception:  # Whatever a model does with a number of images it was not made for.
            return None
        return Survey(run.live_values, run.work)

    def work_of(self, node: Node, images: int) -> float:
        """Of one node, for so many images."""
        each, once = self.work.get(node.name, (0.0, 0.0))
        return images * each + once


def within_memory(
    inputs: tuple[Tensor, ...], survey: Survey | None, *, networks: int
) -> tuple[Tensor, ...]:
    """As many images as may pass in one batch through so many networks of this size side by side.

    All of them where nothing is known of the network or where the inputs are no batches.
    """
    if survey is None or len({len(value) for value in inputs}) > 1:
        return inputs
    each = networks * _BYTES * max(survey.live_values, 1)
    count = min(max(_MEMORY // each, _FEWEST_IMAGES), len(inputs[0]))
    _LOGGER.info(
        "%d of %d images pass through %d network(s) in one batch, which holds up to %.0f MiB",
        count, len(inputs[0]), networks, count * each / 2**20,
    )  # fmt: skip
    return tuple(value[:count] for value in inputs)


class _Run(Interpreter):
    def __init__(self, graph: GraphModule) -> None:
        super().__init__(graph)
        self.extra_traceback = False
        self.live_values = 0
        self.work: dict[str, tuple[float, float]] = {}
        self._node: Node

    def run_node(self, n: Node) -> Any:
        self._node = n
        result = super().run_node(n)
        held = [result, *self.env.values()]
        live = {id(leaf): leaf.numel() for leaf in tree_leaves(held) if isinstance(leaf, Tensor)}
        self.live_values = max(self.live_values, sum(live.values()))
        return result

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        return value.clone() if isinstance(value, Tensor) else value  # It may be overwritten.

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.fetch_attr(target)
        if isinstance(module, ActivationObserver):
            return args[0]
        output = super().call_module(target, args, kwargs)
        if isinstance(module, nn.Conv2d | nn.Linear):
            self.work[self._node.name] = _work_of(module, output)
        return output


def _work_of(layer: nn.Conv2d | nn.Linear, output: Tensor) -> tuple[float, float]:
    entries = layer.weight[0].numel()
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    once = groups * entries**2 * (enough_positions(layer) / 2 + _FACTORIZATION * entries)
    return float(_RUNS * output.numel() * entries), float(once)
