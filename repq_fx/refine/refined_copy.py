"""A copy of a prepared graph that ranges, weights and biases can be refined in."""

import copy
from collections.abc import Iterable
from dataclasses import replace

from torch import nn
from torch.fx import GraphModule, Node

from ..backend.prepared_view import PreparedView
from ..backend.preparing.observers import drop_observers_of_others_met, drop_unread_observers
from ..errors import CalibrationError, ConversionError
from ..passes.graph.canonical_calls import canonicalize_calls
from ..passes.graph.module_names import free_name
from ..passes.graph.mutation import overwritten_alias, read_results_of_mutations
from ..quant.images import inputs_left
from .observer_placement import drop_needless_observers

# What may be asked of a weight, and done with it, for the sake of its type and its device alone.
_QUESTIONS = ("dtype", "device")
_CONVERSIONS = ("to", "type_as")


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


def separate_float_reads(view: PreparedView) -> None:
    """Give each parameter that is read of a layer that will be quantized a place of its own.

    A quantized layer has no ``weight`` any more, and before that the weight is rounded in its
    place; a graph that multiplies by it, say, goes on with the float one. Where only its type or
    its device is asked for, an empty tensor answers, which costs nothing and moves with the model.

    Args:
        view: Of a network that the caller owns; changed in place.
    """
    prepared = view.graph_module
    names: dict[tuple[str, bool], str] = {}
    for node in prepared.graph.nodes:
        if node.op != "get_attr":
            continue
        owner, _, own_name = str(node.target).rpartition(".")
        if owner not in view.plans:
            continue
        key = (str(node.target), all(_asks_for_type(user, node) for user in node.users))
        if key not in names:
            names[key] = free_name(prepared, f"{owner}_{own_name}".replace(".", "_"))
            tensor = getattr(prepared.get_submodule(owner), own_name).detach()
            prepared.register_buffer(names[key], tensor.new_empty(0) if key[1] else tensor.clone())
        node.target = names[key]
    if names:
        prepared.recompile()


def _asks_for_type(user: Node, tensor: Node) -> bool:
    """Whether `user` depends only on the dtype and the device of `tensor`."""
    if user.op == "call_function" and user.target is getattr:
        return user.args[1] in _QUESTIONS
    is_conversion = user.op == "call_method" and user.target in _CONVERSIONS
    return is_conversion and user.args[0] is not tensor


def plan_edges(view: PreparedView) -> None:
    """Give the edges of the network the width that their plans name for it, in place."""
    edges = first_and_last_layers(view.graph_module)
    for node, plan in view.layers.items():
        if str(node.target) not in edges:
            continue
        view.plans[str(node.target)] = plan.at_edge()
        for source in node.all_input_nodes:
            observer = view.observer(source)
            if observer is not None and plan.first_last_bits is not None:
                observer.plan = replace(observer.plan, activation_bits=plan.first_last_bits)


def first_and_last_layers(model: GraphModule) -> set[str]:
    """Names of the convolutions and linear layers that depend on none, or that none depends on."""
    kinds = (nn.Conv2d, nn.Linear)
    called = [node for node in model.graph.nodes if node.op == "call_module"]
    weighted = {node for node in called if type(model.get_submodule(str(node.target))) in kinds}
    below: set[Node] = set()
    for node in model.graph.nodes:
        if _meets(node.all_input_nodes, weighted | below):
            below.add(node)
    above: set[Node] = set()
    for node in reversed(model.graph.nodes):
        if _meets(node.users, weighted | above):
            above.add(node)
    return {str(node.target) for node in weighted if node not in below or node not in above}


def _meets(nodes: Iterable[Node], others: set[Node]) -> bool:
    return any(node in others for node in nodes)
