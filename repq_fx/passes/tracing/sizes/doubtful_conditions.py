"""Trying what `torch.export` took for granted about sizes, where it may not matter."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sympy  # type: ignore[import-untyped]
from torch import nn
from torch.fx import GraphModule

from ....errors import SizeError, TraceError
from ...graph.example import Inputs, difference, random_like, run
from .conditions import InputSizes, answer


def guard_doubtful_conditions(
    graph_module: GraphModule, model: nn.Module, inputs: Inputs, sizes: InputSizes
) -> None:
    """Let the graph check those doubtful conditions without which it departs from `model`.

    Export takes a free size for more than 1, and asks in many places whether an axis has the size
    of 1 only to know how memory is laid out. To check all would refuse small images for nothing, so
    each is tried on an input like a part of the example that does not meet it.

    Args:
        graph_module: A graph of `model`; changed in place.
        model: What the graph was made of.
        inputs: The example.
        sizes: What is known of their sizes.

    Raises:
        TraceError: The example itself does not meet such a condition.
    """
    conditions: dict[tuple[Any, ...], list[sympy.Basic]] = {}
    for condition in sizes.doubtful:
        shapes = next(_shapes_without(condition, inputs, sizes), None)
        if shapes is not None:
            conditions.setdefault(shapes, []).append(condition)
    needed = []
    # An example of zeros shows nothing, but a model may take no other values than such as it holds.
    examples = (random_like(inputs), inputs) if conditions else ()
    for shapes, group in conditions.items():
        if not _holds(graph_module, model, [_cut(each, shapes) for each in examples]):
            if shapes == tuple(tuple(entry.shape) for entry in inputs):
                raise TraceError("Cannot export the model: it treats one image in its own way.")
            needed += group
    if needed:
        _append_checks(graph_module, needed, sizes)


def _shapes_without(
    condition: sympy.Basic, inputs: Inputs, sizes: InputSizes
) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Shapes of parts of the example that do not meet `condition`, large ones first.

    They meet all that the graph checks already. Sizes that this ties to those in `condition` are
    cut in proportion.
    """
    given = sizes.on(inputs)
    asked = [symbol for symbol in given if symbol in condition.free_symbols]
    tied = [symbol for symbol in sizes.tied_to(asked) if symbol not in asked]
    largest = max((given[symbol] for symbol in asked), default=0)
    # Strides are powers of two; a few sizes stand for all of a large image.
    steps = (odd << power for odd in (1, 3) for power in range(largest.bit_length()))
    for length in sorted({largest, *steps, *range(1, 16)}, reverse=True):
        cut = {symbol: min(length, given[symbol]) for symbol in asked}
        cut_too = {symbol: max(1, given[symbol] * length // largest) for symbol in tied}
        for values in ({**given, **cut}, {**given, **cut, **cut_too}):
            if answer(condition, values) == sympy.false and sizes.admit(values):
                shapes = sizes.shapes(values)
                if all(map(_fits, shapes, inputs)):
                    yield shapes


def _fits(shape: Sequence[int], entry: Any) -> bool:
    return all(0 < size <= whole for size, whole in zip(shape, entry.shape, strict=True))


def _cut(inputs: Inputs, shapes: tuple[tuple[int, ...], ...]) -> Inputs:
    return tuple(
        entry[tuple(slice(size) for size in shape)]
        for entry, shape in zip(inputs, shapes, strict=True)
    )


def _holds(graph_module: GraphModule, model: nn.Module, parts: Iterable[Inputs]) -> bool:
    """Whether the graph does what the model does, or refuses, on the first that the model takes."""
    for part in parts:
        try:
            known = run(model, part)
        except Exception:  # whatever the model itself cannot do
            continue
        try:
            return difference(known, run(graph_module, part)) is None
        except SizeError:
            return True
        except Exception:  # a raw error of an operator
            return False
    return True


def _append_checks(
    graph_module: GraphModule, conditions: Sequence[sympy.Basic], sizes: InputSizes
) -> None:
    placeholders = [node for node in graph_module.graph.nodes if node.op == "placeholder"]
    with graph_module.graph.inserting_before(placeholders[-1].next):
        for condition in conditions:
            sizes.guard(condition)
    graph_module.recompile()
