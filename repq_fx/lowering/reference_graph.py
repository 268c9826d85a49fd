"""From a prepared and calibrated graph to the reference quantized graph."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch.fx import GraphModule, Node

from .._torch_ao import convert_decomposed
from ..backend.configuration import get_backend_config
from ..backend.prepared_view import PreparedView
from ..backend.reference import ReferenceLayer
from ..passes.tracing.symbolic import OrderedDictTracer
from ..progress import Progress
from ..quant import WeightObserver
from ..quant.images import inputs_left
from ..quant.observers import ChosenRange, ChosenWeight
from ..refine.refined_copy import refined_copy
from ..refine.refinement import Refinement
from ..refine.sequential import Pair, SequentialWalk
from ..refine.survey import Survey, within_memory
from .grids import DEQUANTIZE, note_grids


def to_reference(prepared: GraphModule, progress: Progress) -> GraphModule:
    """A new graph of reference layers between quantize and dequantize ops; see `repq_fx.convert`.

    Of large images fewer than `calibrate` keeps are read, so that memory is bounded.

    Raises:
        ConversionError: `prepared` did not come from `prepare_fx`; see also `refined_copy`.
        CalibrationError: See `refined_copy`.
    """
    view = refined_copy(PreparedView.of(prepared, "convert"), "convert")
    found = Refinement.left_on(prepared)
    if found is None:
        found = _refined(view, prepared, progress)
    else:
        found.write(view.graph_module)
    _tell_torch(view, found)
    reference = convert_decomposed(view.graph_module, get_backend_config())
    for module in reference.modules():
        module.__dict__.pop("qconfig", None)
    _drop_unread_quantization(reference)
    note_grids(reference)
    reference._tracer_cls = reference.graph._tracer_cls = OrderedDictTracer
    return reference.eval()


def _refined(view: PreparedView, prepared: GraphModule, progress: Progress) -> Refinement:
    """What is found with the images that `calibrate` kept; nothing if there are none."""
    found, inputs = Refinement(), inputs_left(prepared)
    if inputs is None:
        return found
    device = next(prepared.parameters(), inputs[0]).device  # It may have moved since.
    inputs = tuple(value.to(device) for value in inputs)
    survey = Survey.of(view.graph_module, inputs)
    inputs = within_memory(inputs, survey, networks=2)
    watch = _showing(view, survey, len(inputs[0]), progress)
    walk = SequentialWalk(view, prepared, found, watch=watch)
    walk.through(view.graph_module, [Pair(value, value) for value in inputs])
    return found


def _tell_torch(view: PreparedView, found: Refinement) -> None:
    """Leave what was found where `torch.ao` asks for it: on observers and in qconfigs, in place."""
    for node, plan in view.layers.items():
        layer: Any = view.module(node)
        weight = found.weights.get(view.first_name(str(node.target)))
        make: partial[WeightObserver] = partial(WeightObserver, plan)
        if weight is not None:
            make = partial(ChosenWeight, plan, weight)
        layer.qconfig = layer.qconfig._replace(weight=make)
    observers = view.observers
    chosen = {node: found.ranges.get(view.first_name(str(node.target))) for node in observers}
    for node, parameters in chosen.items():
        if parameters is not None:
            observer = ChosenRange(observers[node].plan, parameters)
            view.graph_module.set_submodule(str(node.target), observer)


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
    view: PreparedView, survey: Survey | None, images: int, progress: Progress
) -> Callable[[Node], None]:
    """What moves the bar at each node, by what the nodes before it cost."""
    nodes = list(view.graph_module.graph.nodes)
    work = {n: 1.0 if survey is None else survey.work_of(n, images) for n in nodes}
    total, done = sum(work.values()) or 1.0, 0.0

    def show(node: Node) -> None:
        nonlocal done
        if view.observer(node) is not None:
            progress.step(done / total, f"range of {node.args[0]}")
        elif node.op == "call_module":
            progress.step(done / total, str(node.target))
        done += work[node]

    return show
