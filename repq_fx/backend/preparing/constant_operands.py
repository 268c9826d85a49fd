"""Observers of parameters that a network adds to its tensors, or multiplies them by."""

from torch.fx import GraphModule

from ...passes.graph.constants import Constants
from ...quant import MinMax
from .unread_observers import observer_of


def keep_whole_ranges(prepared: GraphModule) -> None:
    """Give each tensor that depends on no input the grid of all its values, in place.

    No more is to be learned of it from calibration data, and none of its values is an outlier.
    """
    constants = Constants(prepared)
    called = [node for node in prepared.graph.nodes if node.op == "call_module"]
    for node in called:
        observer = observer_of(prepared, node)
        is_shared = sum(other.target == node.target for other in called) > 1
        if observer is not None and node.args[0] in constants and not is_shared:
            observer.rule = MinMax()
            observer.sequential = observer.searches_outputs = False
