"""Observers of parameters that a network adds to its tensors, or multiplies them by."""

from ...passes.graph.constants import Constants
from ..prepared_view import PreparedView


def keep_whole_ranges(view: PreparedView) -> None:
    """Give each tensor that depends on no input the grid of all its values, in place.

    No more is to be learned of it from calibration data, and none of its values is an outlier.
    """
    constants = Constants(view.graph_module)
    for node, observer in view.observers.items():
        if node.args[0] in constants and node.name in view.unshared:
            observer.plan = observer.plan.of_constant()
