"""From a prepared and calibrated graph to the reference quantized graph."""

import copy
from operator import setitem

import torch
from torch.fx import GraphModule, Node

from .._torch_ao import convert_decomposed, is_prepared
from ..errors import CalibrationError, ConversionError
from ..passes.mutation import mutated_operand, read_results_of_mutations
from ..quant import ActivationObserver
from ..quant.calibration import KEPT_INPUTS
from .configuration import get_backend_config
from .edge_layers import apply_first_last_bits
from .observer_placement import drop_needless_observers
from .reference import ReferenceLayer
from .sequential import quantize_sequentially

QUANTIZE = torch.ops.quantized_decomposed.quantize_per_tensor.default
DEQUANTIZE = torch.ops.quantized_decomposed.dequantize_per_tensor.default


def to_reference(prepared: GraphModule) -> GraphModule:
    """A new graph of reference layers between quantize and dequantize ops; see `repq_fx.convert`.

    Raises:
        ConversionError: `prepared` did not come from `prepare_fx`.
        CalibrationError: An observer has seen no data; the message names the tensor.
    """
    if not is_prepared(prepared):
        raise ConversionError(
            f"convert: expected a model prepared by prepare_fx, got {type(prepared).__name__}."
        )
    _require_calibrated(prepared)
    refined = copy.deepcopy(prepared)
    _normalize(refined)
    drop_needless_observers(refined)
    apply_first_last_bits(refined)
    inputs = refined.meta.get(KEPT_INPUTS)
    if inputs is not None:
        device = next(prepared.parameters(), inputs[0]).device  # It may have moved since.
        quantize_sequentially(refined, prepared, tuple(value.to(device) for value in inputs))
    reference = convert_decomposed(refined, get_backend_config())
    for module in reference.modules():
        module.__dict__.pop("qconfig", None)
    _drop_unread_quantization(reference)
    return reference.eval()


def _normalize(refined: GraphModule) -> None:
    """One way to write what a graph may write in several, in place.

    Raises:
        ConversionError: An operation in place has an effect that the graph does not show.
    """
    read_results_of_mutations(refined)
    reaches_output: set[Node] = set()
    for node in reversed(refined.graph.nodes):
        if node.op == "output" or any(user in reaches_output for user in node.users):
            reaches_output.add(node)
        elif node.target is not setitem and mutated_operand(refined, node):
            raise ConversionError(
                f"convert: {node.name!r} overwrites a view of a tensor that is read elsewhere, "
                "which torch.fx would drop; write it without an operation in place."
            )
        if node.op == "call_module" and not node.args and "input" in node.kwargs:
            node.args, node.kwargs = (node.kwargs["input"],), {}
    refined.recompile()


def _require_calibrated(prepared: GraphModule) -> None:
    for node in prepared.graph.nodes:
        if node.op != "call_module":
            continue
        observer = prepared.get_submodule(str(node.target))
        if isinstance(observer, ActivationObserver) and observer.histogram.is_empty:
            raise CalibrationError(
                f"convert: the observer of {str(node.args[0])!r} has seen no data: run "
                "repq_fx.calibrate(prepared, data) first."
            )


def _drop_unread_quantization(reference: GraphModule) -> None:
    """Leave in float what no quantized layer reads: the network's output and the ops before it."""
    read: dict[Node, bool] = {}
    for node in reversed(reference.graph.nodes):
        read[node] = any(read[user] for user in node.users) or (
            node.op == "call_module"
            and isinstance(reference.get_submodule(str(node.target)), ReferenceLayer)
        )
        if node.target is DEQUANTIZE and not read[node]:
            node.replace_all_uses_with(node.all_input_nodes[0].all_input_nodes[0])
    reference.graph.eliminate_dead_code()
    reference.recompile()
