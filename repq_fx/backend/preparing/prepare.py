"""Where observers are placed before calibration."""

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, symbolic_trace

from ... import _torch_ao
from ...passes.equalizing.equalize import equalize_behind_activations
from ...passes.gathering.functions import gather_functions
from ...passes.gathering.norms import gather_norms
from ...passes.gathering.pixel_shuffles import shuffle_pixels
from ...passes.graph.example import ExampleInputs
from ...quant import Scheme
from ..configuration import get_backend_config, get_qconfig_mapping
from ..prepared_view import PreparedView
from .float_layers import report_float_layers
from .observers import (
    drop_observers_of_other_values,
    drop_unread_observers,
    keep_whole_ranges,
    observe_inside_padding,
)
from .override_targets import modules_of
from .torch_limits import MadeOperands, OutputShell, call_batch_statistics


def write_as_layers(graph: GraphModule, inputs: tuple[Tensor, ...], scheme: Scheme) -> None:
    """Call layers that have integer kernels where a model writes the same otherwise, in place.

    Layer normalizations and functions of each element become one layer each, and transposed
    convolutions others; a norm of batch statistics becomes a call of a function. What an override
    of `scheme` is about stays.
    """
    call_batch_statistics(graph)
    kept = _kept_modules(graph, scheme).values()
    gather_norms(graph, inputs)
    gather_functions(graph, inputs, kept)
    shuffle_pixels(graph, kept)


def equalized(graph: GraphModule, images: ExampleInputs, scheme: Scheme) -> GraphModule:
    """A graph behind `write_as_layers`, equalized for `scheme`; what an override is about stays."""
    return equalize_behind_activations(
        graph, images,
        weight_bits=scheme.weight_bits, activation_bits=scheme.activation_bits,
        only_depthwise=scheme.equalization == "depthwise",
        kept=_kept_modules(graph, scheme).keys(),
    )  # fmt: skip


def _kept_modules(graph: GraphModule, scheme: Scheme) -> dict[str, nn.Module]:
    """The modules that overrides of `scheme` are about, by their qualified names."""
    kept = {id(each) for override in scheme.overrides for each in modules_of(override, graph)}
    return {name: module for name, module in graph.named_modules() if id(module) in kept}


@torch.no_grad()
def place_observers(model: nn.Module, inputs: tuple[Tensor, ...], scheme: Scheme) -> GraphModule:
    """The result of `prepare_fx` with our tables, without observers that have nothing to round.

    Args:
        model: A module that `torch.fx` can trace, or a graph, which the caller owns: it becomes
            what `write_as_layers` makes of it.
        inputs: Its example.
        scheme: Bits, weight quantizer and range rule.
    """
    graph = model if isinstance(model, GraphModule) else symbolic_trace(model)
    write_as_layers(graph, inputs, scheme)
    mapping, backend = get_qconfig_mapping(scheme), get_backend_config()
    shell, made = OutputShell(graph), MadeOperands()
    with made.behind_layers(graph), shell.taken_off(graph):
        prepared = _torch_ao.prepare(graph, mapping, inputs, backend)
    shell.put_on(prepared)
    made.remove_layers(prepared)
    view = PreparedView.of(prepared, "prepare")
    report_float_layers(view)
    drop_unread_observers(view)
    drop_observers_of_other_values(view, inputs)
    observe_inside_padding(view)
    keep_whole_ranges(view)
    return prepared
