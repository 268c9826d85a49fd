"""From a prepared and calibrated graph to the reference quantized graph."""

from collections.abc import Callable

from torch.fx import GraphModule, Node

from .._torch_ao import convert_decomposed
from ..backend.configuration import get_backend_config
from ..backend.preparing.unread_observers import observer_of
from ..backend.quantized_layer import forget_quantized
from ..backend.reference import ReferenceLayer
from ..passes.tracing.ordered_dict_tracer import OrderedDictTracer
from ..progress import Progress
from ..quant.kept_inputs import inputs_left
from ..refine.refined_copy import refined_copy
from ..refine.refinement import REFINEMENT, Refinement
from ..refine.sequential import ObserverRoles, Pair, quantize_sequentially
from ..refine.survey import Survey, within_memory
from .reference_grids import DEQUANTIZE, note_grids


def to_reference(prepared: GraphModule, progress: Progress) -> GraphModule:
    """A new graph of reference layers between quantize and dequantize ops; see `repq_fx.convert`.

    Of large images fewer than `calibrate` keeps are read, so that memory is bounded.

    Raises:
        ConversionError: See `refined_copy`.
        CalibrationError: See `refined_copy`.
    """
    refined = refined_copy(prepared, "convert")
    found = prepared.meta.get(REFINEMENT)
    inputs = inputs_left(prepared)
    if isinstance(found, Refinement):
        found.write(refined)
    elif inputs is not None:
        device = next(prepared.parameters(), inputs[0]).device  # It may have moved since.
        inputs = tuple(value.to(device) for value in inputs)
        survey = Survey.of(refined, inputs)
        inputs = within_memory(inputs, survey, networks=2)
        watch = _showing(refined, survey, len(inputs[0]), progress)
        pairs = [Pair(value, value) for value in inputs]
        roles = ObserverRoles.of(refined)
        quantize_sequentially(refined, prepared, pairs, roles, watch=watch)
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


def _showing(
    refined: GraphModule, survey: Survey | None, images: int, progress: Progress
) -> Callable[[Node], None]:
    """What moves the bar at each node, by what the nodes before it cost."""
    nodes = list(refined.graph.nodes)
    work = {n: 1.0 if survey is None else survey.work_of(n, images) for n in nodes}
    total, done = sum(work.values()) or 1.0, 0.0

    def show(node: Node) -> None:
        nonlocal done
        if observer_of(refined, node) is not None:
            progress.step(done / total, f"range of {node.args[0]}")
        elif node.op == "call_module":
            progress.step(done / total, str(node.target))
        done += work[node]

    return show
