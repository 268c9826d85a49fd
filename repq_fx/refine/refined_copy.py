"""A copy of a prepared graph that ranges, weights and biases can be refined in."""

import copy

from torch.fx import GraphModule

from ..backend.prepared_view import PreparedView
from ..backend.preparing.observers import drop_observers_of_others_met, drop_unread_observers
from ..errors import CalibrationError, ConversionError
from ..passes.graph.canonical_calls import canonicalize_calls
from ..passes.graph.mutation import overwritten_alias, read_results_of_mutations
from ..quant.kept_inputs import inputs_left
from .edge_layers import plan_edges
from .float_reads import separate_float_reads
from .observer_placement import drop_needless_observers


def refined_copy(prepared: PreparedView, step: str) -> PreparedView:
    """A copy with observers only where something is rounded, each with its own width.

    Args:
        prepared: A graph with observers that have seen data; not changed.
        step: Who asks, for messages.

    Raises:
        ConversionError: An operation in place has an effect that the graph does not show.
        CalibrationError: An observer has seen no data; the message names the tensor.
    """
    kept = inputs_left(prepared.graph_module)
    refined = PreparedView(copy.deepcopy(prepared.graph_module), prepared.plans)
    _normalize(refined.graph_module, step)
    separate_float_reads(refined)
    drop_observers_of_others_met(refined, kept)
    drop_unread_observers(refined)
    _require_calibrated(refined, step)
    drop_needless_observers(refined)
    plan_edges(refined)
    return PreparedView(refined.graph_module, refined.plans)


def _normalize(refined: GraphModule, step: str) -> None:
    """One way to write what a graph may write in several, in place.

    Raises:
        ConversionError: An operation in place has an effect that the graph does not show.
    """
    canonicalize_calls(refined)
    read_results_of_mutations(refined)
    node = overwritten_alias(refined)
    if node is not None:
        raise ConversionError(
            f"{step}: {node.name!r} overwrites a view of a tensor that is read elsewhere, which "
            f"the graph does not show; write it without an operation in place."
        )
    refined.recompile()


def _require_calibrated(view: PreparedView, step: str) -> None:
    for node, observer in view.observers.items():
        if observer.histogram.is_empty:
            raise CalibrationError(
                f"{step}: the observer of {str(node.args[0])!r} has seen no data: run "
                "repq_fx.calibrate(prepared, data) first."
            )
