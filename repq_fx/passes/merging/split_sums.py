"""Turn sums of concatenations into concatenations of sums, whose branches can then merge."""

import operator
from collections.abc import Mapping

from torch.fx import Node

from ..affine.concat_rules import CONCATENATIONS
from ..affine.value import OPAQUE, AffineValue
from ..affine.views import Features
from ..graph.mutation import mutated_operand
from .gather_sums import is_sum


def split_sums(features: Features, values: Mapping[Node, AffineValue]) -> bool:
    """Write ``cat(a, b) + cat(c, d)`` as ``cat(a + c, b + d)``, in place.

    Only sums that are affine in nothing change, of which some pair of parts is a sum of maps of one
    source, so that there is something to merge afterwards.

    Args:
        features: The graph.
        values: From `affine_values`.

    Returns:
        Whether the graph changed.
    """
    graph = features.graph_module.graph
    changed = False
    for node in list(graph.nodes):
        pairs = _pairs(features, node)
        if not pairs or _is_interrupted(features, node):
            continue
        if _is_affine(values, node.args) or not any(_is_affine(values, pair) for pair in pairs):
            continue
        _split(features, node, pairs)
        changed = True
    if changed:
        graph.lint()
        features.graph_module.recompile()
    return changed


def _pairs(features: Features, node: Node) -> list[tuple[Node, Node]]:
    """The parts that a sum of two concatenations adds, if they are of the same shapes."""
    if not is_sum(features, node) or node.args[0] is node.args[1]:
        return []
    first, second = (_parts(features, operand) for operand in node.args)
    shapes = [[features.shapes[part] for part in parts] for parts in (first, second)]
    is_alike = shapes[0] == shapes[1] and _axis(node.args[0]) == _axis(node.args[1])
    return list(zip(first, second, strict=True)) if is_alike else []


def _parts(features: Features, operand: object) -> tuple[Node, ...]:
    if not isinstance(operand, Node) or operand.target not in CONCATENATIONS:
        return ()
    parts = operand.args[0] if operand.args else ()
    is_plain = isinstance(parts, tuple | list) and all(part in features.shapes for part in parts)
    return tuple(parts) if is_plain and len(operand.users) == 1 else ()  # type: ignore[arg-type]


def _axis(concatenation: object) -> object:
    assert isinstance(concatenation, Node)
    return {"dim": dict(enumerate(concatenation.args)).get(1, 0), **concatenation.kwargs}


def _is_interrupted(features: Features, node: Node) -> bool:
    """Whether something is overwritten between the concatenations, which copy, and the sum."""
    step, waiting = node.prev, set(node.args)
    while waiting:
        if mutated_operand(features.graph_module, step) is not None:
            return True
        waiting.discard(step)
        step = step.prev
    return False


def _is_affine(values: Mapping[Node, AffineValue], operands: tuple[object, ...]) -> bool:
    """Whether values are maps of one source, which is none of them."""
    first, second = (values.get(node, OPAQUE).views for node in operands if isinstance(node, Node))
    return any(source in second and source.node not in operands for source in first)


def _split(features: Features, node: Node, pairs: list[tuple[Node, Node]]) -> None:
    graph, (first, second) = node.graph, node.args
    assert isinstance(first, Node)
    assert isinstance(second, Node)
    with graph.inserting_before(node):
        sums = [graph.call_function(operator.add, pair) for pair in pairs]
        result = graph.call_function(first.target, (sums, *first.args[1:]), dict(first.kwargs))  # type: ignore[arg-type]
    features.shapes.update(
        {total: features.shapes[pair[0]] for total, pair in zip(sums, pairs, strict=True)}
    )
    features.shapes[result] = features.shapes[node]
    node.replace_all_uses_with(result)
    for each in (node, first, second):
        graph.erase_node(each)
