"""Which of the tensors that `prepare_fx` observes need no grid of their own."""

import operator

import torch
from torch.fx import Node

from ..backend.patterns import SUMS
from ..backend.prepared_view import PreparedView

# Of which an observer sees the results only, not what they return: a tuple.
_SLICES = {
    "chunk", "split", "unbind", "tensor_split", "split_with_sizes",
    torch.chunk, torch.split, torch.unbind, torch.tensor_split, torch.split_with_sizes,
    operator.getitem,
}  # fmt: skip


def drop_needless_observers(view: PreparedView) -> None:
    """Take observers out where nothing is to be rounded, in place.

    With ``float_elementwise`` observers stay in front of layers alone. Besides, the output of a
    layer that only a sum reads needs no grid: the other operand is added to it before anything is
    rounded. Of two such layers it is the later one. And a tensor of which only slices are read, all
    on one grid, has that grid from the start, so that it is rounded once.
    """
    nodes = list(view.graph_module.graph.nodes)
    for node in nodes:
        _take_grid_of_slices(view, node)
    for node in nodes:
        observer = view.observer(node)
        if observer is not None and observer.plan.float_elementwise:
            _bypass(node, [user for user in node.users if not view.is_layer(user)])
    for node in nodes:
        if node.op in ("call_function", "call_method") and node.target in SUMS:
            summands = [n for n in node.all_input_nodes if _is_summand(view, n)]
            if summands:
                _bypass(max(summands, key=nodes.index), [node])
    view.graph_module.delete_all_unused_submodules()
    view.graph_module.recompile()


def _take_grid_of_slices(view: PreparedView, node: Node) -> None:
    """Let `node` call the observer that all slices of what it observes have, if they have one."""
    readers, has_slices = list(node.users), view.observer(node) is not None
    while has_slices:
        slices = [user for user in readers if user.target in _SLICES]
        readers = [n for user in readers for n in (user.users if user in slices else (user,))]
        has_slices = bool(slices)
    observers = [view.observer(reader) for reader in readers]
    is_one = len({id(observer) for observer in observers}) == 1 and observers[0] is not None
    if is_one and not any(reader in node.users for reader in readers):
        node.target = readers[0].target


def _bypass(observer: Node, users: list[Node]) -> None:
    """Let `users` read what `observer` reads, and erase it when no user is left."""
    for user in users:
        user.replace_input_with(observer, observer.all_input_nodes[0])
    if not observer.users:
        observer.graph.erase_node(observer)


def _is_summand(view: PreparedView, node: Node) -> bool:
    """Whether `node` observes what a layer computes for one sum alone."""
    if view.observer(node) is None or len(node.users) != 1:
        return False
    layer = node.all_input_nodes[0]
    return len(layer.users) == 1 and view.is_layer(layer)
