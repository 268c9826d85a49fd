"""Finding functions of each element that a model writes as several steps."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ..graph.constants import Constants
from ..graph.example import Inputs, run
from ..graph.module_names import free_name
from ..graph.run import LikeRecorder
from .elementwise_function import ElementwiseFunction
from .function_body import function_body
from .function_finder import Function, FunctionFinder
from .known_activations import known_activation


@torch.no_grad()
def gather_functions(
    graph_module: GraphModule, inputs: Inputs, kept: Iterable[nn.Module] = ()
) -> None:
    """Make one layer of every chain or graph of steps on each element of one tensor, in place.

    Whatever a model writes for an activation function (``x * clamp(x + 3, 0, 6) / 6``, a learned
    scale and bias around it) is then that function: nothing inside is rounded, and constants are
    no tensors of the graph.

    Args:
        graph_module: A graph in evaluation mode that the caller owns.
        inputs: Its example.
        kept: Modules that stay as they are.
    """
    likes: dict[Node, Tensor] = {}
    run(LikeRecorder(graph_module, likes).run, inputs)
    constants = Constants(graph_module, likes)
    kept_ids = {id(module) for module in kept}
    functions = FunctionFinder(graph_module, likes, constants, kept_ids).functions()
    for function in reversed(functions):  # So that the sources of later ones are still there.
        _replace(graph_module, function, constants)
    if functions:
        graph_module.graph.eliminate_dead_code()
        graph_module.delete_all_unused_submodules()
        graph_module.recompile()


def _replace(graph_module: GraphModule, function: Function, constants: Constants) -> None:
    """Call a layer in place of the last step; the others become dead code."""
    end = function.steps[-1]
    wish = str(end.target) if end.op == "call_module" else end.name
    name = free_name(graph_module, wish)
    graph_module.add_submodule(name, _layer(graph_module, function, constants).eval())
    with graph_module.graph.inserting_before(end):
        call = graph_module.graph.call_module(name, (function.source,))
    end.replace_all_uses_with(call)


def _layer(graph_module: GraphModule, function: Function, constants: Constants) -> nn.Module:
    body = function_body(graph_module, function.source, function.steps, constants)
    # The integer kernels scale each channel for itself where they compute the sums of a layer.
    if function.channels is None or _is_behind_convolution(graph_module, function):
        known = known_activation(copy.deepcopy(body).double(), function.channels)
        if known is not None:
            return known.float()
    return ElementwiseFunction(body, function.channels)


def _is_behind_convolution(graph_module: GraphModule, function: Function) -> bool:
    source = function.source
    module = graph_module.get_submodule(str(source.target)) if source.op == "call_module" else None
    return type(module) is nn.Conv2d and set(source.users) <= set(function.steps)
