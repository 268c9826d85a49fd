"""Which of the tensors that `prepare_fx` observes need no grid of their own."""

import operator

import torch
from torch.fx import GraphModule, Node

from ..backend.patterns import SUMS
from ..backend.preparing.unread_observers import observer_of
from ..backend.quantized_layer import is_quantized_layer

# Of which an observer sees the results only, not what they return: a tuple.
_SLICES = {
    "chunk", "split", "unbind", "tensor_split", "split_with_sizes",
    torch.chunk, torch.split, torch.unbind, torch.tensor_split, torch.split_with_sizes,
    operator.getitem,
}  # fmt: skip


def drop_needless_observers(prepared: GraphModule) -> None:
    """Take observers out where nothing is to be rounded, in place.

    Observers with ``layers_only`` stay in front of layers alone. Besides, the output of a layer
    that only a sum reads needs no grid: the other operand is added to it before anything is
    rounded. Of two such layers it is the later one. And a tensor of which only slices are read, all
    on one grid, has that grid from the start, so that it is rounded once.
    """
    nodes = list(prepared.graph.nodes)
    for node in nodes:
        _take_grid_of_slices(prepared, node)
    for node in nodes:
        observer = observer_of(prepared, node)
        if observer is not None and observer.layers_only:
            _bypass(node, [user for user in node.users if not is_quantized_layer(prepared, user)])
    for node in nodes:
        if node.op in ("call_function", "call_method") and node.target in SUMS:
            summands = [n for n in node.all_input_nodes if _is_summand(prepared, n)]
            if summands:
                _bypass(max(summands, key=nodes.index), [node])
    prepared.delete_all_unused_submodules()
    prepared.recompile()


def _take_grid_of_slices(prepared: GraphModule, node: Node) -> None:
    """Let `node` call the observer that all slices of what it observes have, if they have one."""
    readers, has_slices = list(node.users), observer_of(prepared, node) is not None
    while has_slices:
        slices = [user for user in readers if user.target in _SLICES]
        readers = [n for user in readers for n in (user.users if user in slices else (user,))]
        has_slices = bool(slices)
    observers = [observer_of(prepared, reader) for reader in readers]
    is_one = len({id(observer) for observer in observers}) == 1 and observers[0] is not None
    if is_one and not any(reader in node.users for reader in readers):
        node.target = readers[0].target


def _bypass(observer: Node, users: list[Node]) -> None:
    """Let `users` read what `observer` reads, and erase it when no user is left."""
    for user in users:
        user.replace_input_with(observer, observer.all_input_nodes[0])
    if not observer.users:
        observer.graph.erase_node(observer)


def _is_summand(prepared: GraphModule, node: Node) -> bool:
    """Whether `node` observes what a layer computes for one sum alone."""
    if observer_of(prepared, node) is None or len(node.users) != 1:
        return False
    layer = node.all_input_nodes[0]
    return len(layer.users) == 1 and is_quantized_layer(prepared, layer)
