"""Checks for axes of size 1, which operators may treat in a way of their own.

`torch.export` takes for granted that a free size is more than 1, and notes no question about that.
"""

import operator
from collections.abc import Iterator

from torch import nn
from torch.fx import GraphModule, Node

from ..errors import SizeError
from .agreement import difference
from .example import Inputs, run
from .size_guards import guard_size


def guard_single_sizes(graph_module: GraphModule, model: nn.Module, inputs: Inputs) -> None:
    """Let the graph refuse a size of 1 on each axis where it then departs from `model`, in place.

    Args:
        graph_module: A graph of `model`, whose placeholders know their shape on the example.
        model: What the graph was made of.
        inputs: The example, of which one axis at a time is cut to one entry. An axis on which
            several inputs have the same size is cut in all of them.
    """
    placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    guarded = False
    for axis, size in _sizes(inputs):
        single = tuple(
            entry.narrow(axis, 0, 1) if entry.dim() > axis and entry.shape[axis] == size else entry
            for entry in inputs
        )
        if not _holds(graph_module, model, single):
            cut = next(i for i, entry in enumerate(inputs) if entry is not single[i])
            _refuse_one(placeholders[cut], axis, placeholders[-1])
            guarded = True
    if guarded:
        graph_module.recompile()


def _sizes(inputs: Inputs) -> Iterator[tuple[int, int]]:
    """Each axis with a size above 1 that it has in an input, once."""
    shapes = [tuple(enumerate(entry.shape)) for entry in inputs]
    yield from dict.fromkeys((axis, size) for shape in shapes for axis, size in shape if size > 1)


def _holds(graph_module: GraphModule, model: nn.Module, inputs: Inputs) -> bool:
    """Whether the graph computes what the model does, refuses, or has nothing to compute."""
    try:
        known = run(model, inputs)
    except Exception:  # whatever the model itself cannot do
        return True
    try:
        return difference(known, run(graph_module, inputs)) is None
    except SizeError:
        return True
    except Exception:  # a raw error of an operator
        return False


def _refuse_one(source: Node, axis: int, last_placeholder: Node) -> None:
    graph = source.graph
    with graph.inserting_before(last_placeholder.next):
        size = graph.call_method("size", (source, axis))
        guard_size(graph.call_function(operator.gt, (size, 1)), True, source)
