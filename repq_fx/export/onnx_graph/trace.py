"""A quantized graph as torch exports it, for inputs of as many sizes as torch can follow."""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from ...errors import ExportError
from ...ops.require_size import require_size_reference
from ...passes.graph.example import Inputs
from ...passes.tracing.sizes.free_sizes import sizes_to_try
from ...passes.tracing.sizes.guards import is_size_guard

_LOGGER = logging.getLogger(__name__)
_STEP = 32  # Pyramids of features take images whose sides are multiples of it, not any.


def traced(graph_module: GraphModule, inputs: Inputs) -> ExportedProgram:
    """The program of a graph, which may be changed, with the batch and more free if that can be.

    Raises:
        ExportError: Torch cannot export it.
    """
    _decide_by_guards(graph_module)
    failure: Exception | None = None
    for example, free in _attempts(inputs):
        try:
            return torch.export.export(graph_module, example, dynamic_shapes=free, strict=False)
        except Exception as error:  # Torch raises what it pleases, also where a size is not free.
            _LOGGER.info("onnx: not with free sizes %s", free, exc_info=True)
            failure = error
    reason = str(failure).strip().partition("\n")[0]
    raise ExportError(f"onnx: torch cannot export the graph: {reason}") from failure


def _decide_by_guards(graph_module: GraphModule) -> None:
    """Let checks of sizes be answered in tracing, in which torch takes the size for fixed."""
    for node in graph_module.graph.nodes:
        if is_size_guard(node):
            node.target = require_size_reference
    graph_module.recompile()


def _attempts(inputs: Inputs) -> Iterator[tuple[Inputs, tuple[Any, ...] | None]]:
    """As `sizes_to_try`, and after all free sizes those that are multiples."""
    first, *others = sizes_to_try(inputs)
    example, free = first
    yield example, _without_ones(example, free)
    if len(example) == 1 and example[0].dim() == 4:
        sides = [side for side in (2, 3) if _is_multiple(example[0].shape[side])]
        names = {2: "height", 3: "width"}
        if sides:
            yield example, ({0: Dim.AUTO} | {side: _STEP * Dim(names[side]) for side in sides},)
    for example, free in others:
        yield example, _without_ones(example, free)


def _without_ones(example: Inputs, free: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """Leave out sizes of 1, which torch takes for fixed, and says so at length."""
    if free is None:
        return None
    return tuple(
        {axis: dim for axis, dim in axes.items() if entry.shape[axis] != 1}
        for entry, axes in zip(example, free, strict=True)
    )


def _is_multiple(size: int) -> bool:
    return size % _STEP == 0 and size > _STEP  # Export takes a factor of 1 for a constant.
