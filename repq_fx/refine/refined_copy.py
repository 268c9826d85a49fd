"""A copy of a prepared graph that ranges, weights and biases can be refined in."""

import copy

from torch.fx import GraphModule

from .._torch_ao import is_prepared
from ..backend.preparing.other_values import drop_observers_of_others_met
from ..backend.preparing.unread_observers import drop_unread_observers
from ..errors import CalibrationError, ConversionError
from ..passes.graph.aliases import overwritten_alias
from ..passes.graph.canonical_calls import canonicalize_calls
from ..passes.graph.mutation import read_results_of_mutations
from ..quant import ActivationObserver
from ..quant.kept_inputs import inputs_left
from .edge_layers import apply_first_last_bits
from .float_reads import separate_float_reads
from .observer_placement import drop_needless_observers


def refined_copy(prepared: GraphModule, step: str) -> GraphModule:
    """A copy with observers only where something is rounded, each with its own width.

    Args:
        prepared: The result of `prepare_fx`, calibrated; not changed.
        step: Who asks, for messages.

    Raises:
        ConversionError: `prepared` did not come from `prepare_fx`, or an operation in place has an
            effect that the graph does not show.
        CalibrationError: An observer has seen no data; the message names the tensor.
    """
    if not is_prepared(prepared):
        raise ConversionError(
            f"{step}: expected a model prepared by prepare_fx, got {type(prepared).__name__}."
        )
    refined = copy.deepcopy(prepared)
    _normalize(refined, step)
    separate_float_reads(refined)
    drop_observers_of_others_met(refined, inputs_left(prepared))
    drop_unread_observers(refined)
    _require_calibrated(refined, step)
    drop_needless_observers(refined)
    apply_first_last_bits(refined)
    return refined


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


def _require_calibrated(prepared: GraphModule, step: str) -> None:
    for node in prepared.graph.nodes:
        if node.op != "call_module":
            continue
        observer = prepared.get_submodule(str(node.target))
        if isinstance(observer, ActivationObserver) and observer.histogram.is_empty:
            raise CalibrationError(
                f"{step}: the observer of {str(node.args[0])!r} has seen no data: run "
                "repq_fx.calibrate(prepared, data) first."
            )
