"""Where observers are placed before calibration."""

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, symbolic_trace

from .. import _torch_ao
from ..passes.gather_functions import gather_functions
from ..passes.pixel_shuffles import shuffle_pixels
from ..quant import Scheme
from .batch_statistics import call_batch_statistics
from .configuration import get_backend_config, get_qconfig_mapping
from .constant_operands import keep_whole_ranges
from .float_layers import report_float_layers
from .made_operands import MadeOperands
from .other_values import drop_observers_of_other_values
from .output_shell import OutputShell
from .override_targets import modules_of
from .pool_padding import observe_inside_padding
from .unread_observers import drop_unread_observers


@torch.no_grad()
def place_observers(model: nn.Module, inputs: tuple[Tensor, ...], scheme: Scheme) -> GraphModule:
    """The result of `prepare_fx` with our tables, without observers that have nothing to round.

    Args:
        model: A module that `torch.fx` can trace, or a graph, which the caller owns: of that each
            norm of batch statistics becomes a call of a function.
        inputs: Its example.
        scheme: Bits, weight quantizer and range rule.
    """
    graph = model if isinstance(model, GraphModule) else symbolic_trace(model)
    call_batch_statistics(graph)
    kept = [module for override in scheme.overrides for module in modules_of(override, graph)]
    gather_functions(graph, inputs, kept)
    shuffle_pixels(graph, kept)
    mapping, backend = get_qconfig_mapping(scheme), get_backend_config()
    shell, made = OutputShell(graph), MadeOperands()
    with made.behind_layers(graph), shell.taken_off(graph):
        prepared = _torch_ao.prepare(graph, mapping, inputs, backend)
    shell.put_on(prepared)
    made.remove_layers(prepared)
    report_float_layers(prepared)
    drop_unread_observers(prepared)
    drop_observers_of_other_values(prepared, inputs)
    observe_inside_padding(prepared)
    keep_whole_ranges(prepared)
    return prepared
