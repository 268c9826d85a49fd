"""Observers of what is not one floating-point tensor: tuples, indices, masks, sizes."""

from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ...passes.graph.run import GraphRun
from ...quant import ActivationObserver
from .unread_observers import erase_observer, observer_of


@torch.no_grad()
def drop_observers_of_other_values(prepared: GraphModule, inputs: tuple[Tensor, ...]) -> None:
    """Take out every observer that meets something else than one floating-point tensor, in place.

    The network runs once, and no observer counts what it computes.
    """
    run = _Run(prepared)
    run.run(*(value.clone() for value in inputs))  # The network may overwrite them.
    for node in run.others:
        erase_observer(node)
    prepared.delete_all_unused_submodules()
    prepared.recompile()


def drop_observers_of_others_met(prepared: GraphModule, inputs: tuple[Tensor, ...] | None) -> None:
    """The same for a network that was calibrated with observers of such values, in place.

    An observer may stand in several places and say only that it has met such a value in one of
    them; where no `inputs` are known that would tell which, it goes from all.
    """
    met = [n for n in prepared.graph.nodes if _has_met_others(prepared, n)]
    if met and inputs is not None:
        drop_observers_of_other_values(prepared, inputs)
        return
    for node in met:
        erase_observer(node)


def _has_met_others(prepared: GraphModule, node: Node) -> bool:
    observer = observer_of(prepared, node)
    return observer is not None and observer.has_met_others


class _Run(GraphRun):
    def __init__(self, prepared: GraphModule) -> None:
        super().__init__(prepared)
        self.others: list[Node] = []
        self._node: Node

    def run_node(self, n: Node) -> Any:
        self._node = n
        return super().run_node(n)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        if not isinstance(self.fetch_attr(target), ActivationObserver):
            return super().call_module(target, args, kwargs)
        value = args[0]
        if not (isinstance(value, Tensor) and value.is_floating_point()):
            self.others.append(self._node)
        return value
