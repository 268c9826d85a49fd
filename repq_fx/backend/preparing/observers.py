"""What an observer that `prepare_fx` has placed is for: it is erased, or told what to count."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Node

from ...passes.graph.constants import Constants
from ...passes.graph.run import GraphRun
from ..patterns import FORMS_OF_ONE_TENSOR, INTEGER_FORMS
from ..prepared_view import PreparedView, erase_observer

_MAX_POOLS = (nn.MaxPool2d, F.max_pool2d)
_PADS = (F.pad, nn.ConstantPad2d)
# Converters write the lowest number of a type instead, and people -1e9 or the like.
_MINUS_INFINITY = -1e4


def drop_unread_observers(view: PreparedView) -> None:
    """Take observers out where no quantized layer reads the tensor, in place.

    It may read it through operations with an integer form. Whatever ends in a softmax, a logarithm
    or the output alone stays in float, and no observer sees its values: an attention mask may hold
    minus infinity.
    """
    read: set[Node] = set()
    for node in reversed(view.graph_module.graph.nodes):
        is_observer = view.observer(node) is not None
        passes_on = is_observer or _has_integer_form(view, node)
        if view.is_layer(node) or (node in read and passes_on):
            read.update(node.all_input_nodes)
        elif is_observer and node.users:  # Without readers it may observe a step in place.
            erase_observer(node)
    view.graph_module.delete_all_unused_submodules()
    view.graph_module.recompile()


def _has_integer_form(view: PreparedView, node: Node) -> bool:
    operation = view.operation(node)
    if operation in FORMS_OF_ONE_TENSOR:  # A quotient of two tensors, say, has none.
        return len(node.all_input_nodes) == 1
    return operation in INTEGER_FORMS


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


def observe_inside_padding(view: PreparedView) -> None:
    """Let no observer count a padding that is below all values, in place.

    For a max pool the lowest level of a grid is as good. Were it counted, that would be the level
    of the padding and the one next to it that of all values. Where something else reads the padded
    tensor, no grid holds it: it stays in float.
    """
    for node, observer in view.observers.items():
        value = _padding_value(view, node.all_input_nodes[0])
        if not isinstance(value, int | float) or value > _MINUS_INFINITY:
            continue
        if all(view.operation(user) in _MAX_POOLS for user in node.users):
            observer.ignored_value = value
        else:
            erase_observer(node)
    view.graph_module.delete_all_unused_submodules()
    view.graph_module.recompile()


def _padding_value(view: PreparedView, node: Node) -> Any:
    if view.operation(node) not in _PADS:
        return None
    padding: Any = view.module(node)
    if padding is not None:
        return padding.value
    return node.args[3] if len(node.args) > 3 else node.kwargs.get("value")


def keep_whole_ranges(view: PreparedView) -> None:
    """Give each tensor that depends on no input the grid of all its values, in place.

    No more is to be learned of it from calibration data, and none of its values is an outlier.
    """
    constants = Constants(view.graph_module)
    for node, observer in view.observers.items():
        if node.args[0] in constants and node.name in view.unshared:
            observer.plan = observer.plan.of_constant()
