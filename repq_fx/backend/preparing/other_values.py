"""Observers of what is not one floating-point tensor: tuples, indices, masks, sizes."""

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from ...passes.graph.run import GraphRun
from ..prepared_view import PreparedView, erase_observer


@torch.no_grad()
def drop_observers_of_other_values(view: PreparedView, inputs: tuple[Tensor, ...]) -> None:
    """Take out every observer that meets something else than one floating-point tensor, in place.

    The network runs once, and no observer counts what it computes.
    """
    run = _Run(view)
    run.run(*(value.clone() for value in inputs))  # The network may overwrite them.
    for node in run.others:
        erase_observer(node)
    view.graph_module.delete_all_unused_submodules()
    view.graph_module.recompile()


def drop_observers_of_others_met(view: PreparedView, inputs: tuple[Tensor, ...] | None) -> None:
    """The same for a network that was calibrated with observers of such values, in place.

    An observer may stand in several places and say only that it has met such a value in one of
    them; where no `inputs` are known that would tell which, it goes from all.
    """
    met = [node for node, observer in view.observers.items() if observer.has_met_others]
    if met and inputs is not None:
        drop_observers_of_other_values(view, inputs)
        return
    for node in met:
        erase_observer(node)


class _Run(GraphRun):
    def __init__(self, view: PreparedView) -> None:
        super().__init__(view.graph_module)
        self.others: list[Node] = []
        self._view = view

    def run_node(self, n: Node) -> Any:
        if self._view.observer(n) is None:
            return super().run_node(n)
        (value,), _ = self.fetch_args_kwargs_from_env(n)
        if not (isinstance(value, Tensor) and value.is_floating_point()):
            self.others.append(n)
        return value
