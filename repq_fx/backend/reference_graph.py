"""From a prepared and calibrated graph to the reference quantized graph."""

from torch.fx import GraphModule, Node

from .._torch_ao import convert_decomposed
from ..passes.ordered_dict_tracer import OrderedDictTracer
from ..quant.kept_inputs import KEPT_INPUTS
from .configuration import get_backend_config
from .quantized_layer import forget_quantized
from .reference import ReferenceLayer
from .reference_grids import DEQUANTIZE, note_grids
from .refined_copy import refined_copy
from .refinement import REFINEMENT, Refinement
from .sequential import ObserverRoles, Pair, quantize_sequentially


def to_reference(prepared: GraphModule) -> GraphModule:
    """A new graph of reference layers between quantize and dequantize ops; see `repq_fx.convert`.

    Raises:
        ConversionError: See `refined_copy`.
        CalibrationError: See `refined_copy`.
    """
    refined = refined_copy(prepared, "convert")
    found = prepared.meta.get(REFINEMENT)
    inputs = prepared.meta.get(KEPT_INPUTS)
    if isinstance(found, Refinement):
        found.write(refined)
    elif inputs is not None:
        device = next(prepared.parameters(), inputs[0]).device  # It may have moved since.
        pairs = [Pair(value.to(device), value.to(device)) for value in inputs]
        quantize_sequentially(refined, prepared, pairs, ObserverRoles.of(refined))
    reference = convert_decomposed(refined, get_backend_config())
    for module in reference.modules():
        module.__dict__.pop("qconfig", None)
        if not isinstance(module, ReferenceLayer):
            forget_quantized(module)  # torch left it in float, for want of a quantized input.
    _drop_unread_quantization(reference)
    note_grids(reference)
    reference._tracer_cls = reference.graph._tracer_cls = OrderedDictTracer
    return reference.eval()


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
