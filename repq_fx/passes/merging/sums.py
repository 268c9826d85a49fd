"""Sums written anew, so that what one convolution can compute stands together."""

import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import reduce

import torch
from torch.fx import Node

from ...reparam import MapError, add
from ..affine.concat_rules import CONCATENATIONS
from ..affine.value import OPAQUE, AffineValue, Source
from ..affine.views import Features
from ..graph.mutation import mutated_operand

_SUMS = (operator.add, torch.add)


def gather_sums(features: Features, values: Mapping[Node, AffineValue]) -> bool:
    """Reorder sums in place so that their largest part that is affine in one source comes first.

    In ``a(x) + relu(b) + c(x)`` no node is ``a(x) + c(x)``. Only sums in which such a part is
    scattered change; a sum that is affine as a whole, or whose affine summands are next to each
    other, stays as it is.

    Args:
        features: The graph.
        values: From `affine_values`.

    Returns:
        Whether the graph changed.
    """
    sums = (node for node in features.graph_module.graph.nodes if is_sum(features, node))
    roots = [node for node in sums if not _is_summand(features, node)]
    changed = [root for root in roots if _gather(features, values, root)]
    if changed:
        features.graph_module.graph.lint()
        features.graph_module.recompile()
    return bool(changed)


def is_sum(features: Features, node: Node) -> bool:
    """Whether a node adds two values of its own shape and nothing else."""
    if node not in features.shapes or node.target not in _SUMS or node.kwargs:
        return False
    shapes = [features.shapes.get(operand) for operand in node.args if isinstance(operand, Node)]
    return len(shapes) == 2 and set(shapes) == {features.shapes[node]}


def _is_summand(features: Features, node: Node) -> bool:
    """Whether a sum is read by another sum alone, whose part it then is."""
    users = list(node.users)
    return len(users) == 1 and is_sum(features, users[0]) and _count(users[0], node) == 1


def _count(user: Node, operand: Node) -> int:
    return sum(entry is operand for entry in user.args)


def _gather(features: Features, values: Mapping[Node, AffineValue], root: Node) -> bool:
    summands = list(_summands(features, root))
    if len(summands) < 3:
        return False
    together = _largest_part(values, summands)
    if len(together) < 2 or len(together) == len(summands) or _is_node(features, root, together):
        return False
    if _is_overwritten(features, root, summands):
        return False
    rest = list((Counter(summands) - Counter(together)).elements())
    graph = features.graph_module.graph
    shapes = features.shapes
    with graph.inserting_before(root):
        total = together[0]
        for summand in (*together[1:], *rest):
            total = graph.call_function(operator.add, (total, summand))
            shapes[total] = shapes[root]
    root.replace_all_uses_with(total)
    _erase_sums(root, set(summands))
    return True


def _summands(features: Features, node: Node) -> Iterable[Node]:
    for operand in node.args:
        assert isinstance(operand, Node)
        if is_sum(features, operand) and _is_summand(features, operand):
            yield from _summands(features, operand)
        else:
            yield operand


def _largest_part(values: Mapping[Node, AffineValue], summands: list[Node]) -> list[Node]:
    """The most summands that are one map of one source, of which at least one is not the source."""
    sources = Counter(source for node in summands for source in values.get(node, OPAQUE).views)
    parts = ([n for n in summands if source in values.get(n, OPAQUE).views] for source in sources)
    mergeable = (
        part
        for part, source in zip(parts, sources, strict=True)
        if _is_one_map(values, part, source)
    )
    return max(mergeable, key=len, default=[])


def _is_one_map(values: Mapping[Node, AffineValue], part: list[Node], source: Source) -> bool:
    views = [values[node].views[source] for node in part]
    if len({view.channel_axis for view in views}) > 1 or set(part) == {source.node}:
        return False
    try:
        total = reduce(add, (view.map for view in views))
    except MapError:
        return False
    return total.kernel.numel() <= sum(view.map.kernel.numel() for view in views)


def _is_node(features: Features, root: Node, part: list[Node]) -> bool:
    """Whether a node of the sum already adds exactly these summands."""
    inner = [node for node in root.args if isinstance(node, Node) and is_sum(features, node)]
    inner = [node for node in inner if _is_summand(features, node)]
    sums = (Counter(_summands(features, node)) for node in inner)
    return any(own == Counter(part) for own in sums) or any(
        _is_node(features, node, part) for node in inner
    )


def _is_overwritten(features: Features, root: Node, summands: list[Node]) -> bool:
    """Whether a summand changes while the sum is being computed."""
    node, waiting = root.prev, set(summands)
    while waiting:
        if mutated_operand(features.graph_module, node) in summands and node not in summands:
            return True
        waiting.discard(node)
        node = node.prev
    return False


def _erase_sums(root: Node, summands: set[Node]) -> None:
    pending = [root]
    while pending:
        node = pending.pop()
        operands = [
            n for n in dict.fromkeys(node.args) if isinstance(n, Node) and n not in summands
        ]
        node.graph.erase_node(node)
        pending += operands


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
