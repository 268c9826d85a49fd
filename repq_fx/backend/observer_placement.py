"""Which of the tensors that `prepare_fx` observes need no grid of their own."""

from torch.fx import GraphModule, Node

from ..quant import ActivationObserver
from .patterns import SUMS
from .sequential import is_quantized_layer


def drop_needless_observers(prepared: GraphModule) -> None:
    """Take observers out where nothing is to be rounded, in place.

    Observers with ``layers_only`` stay in front of layers alone. Besides, the output of a layer
    that only a sum reads needs no grid: the other operand is added to it before anything is
    rounded. Of two such layers it is the later one.
    """
    nodes = list(prepared.graph.nodes)
    for node in nodes:
        observer = _observer(prepared, node)
        if observer is not None and observer.layers_only:
            _bypass(node, [user for user in node.users if not is_quantized_layer(prepared, user)])
    for node in nodes:
        if node.op in ("call_function", "call_method") and node.target in SUMS:
            summands = [n for n in node.all_input_nodes if _is_summand(prepared, n)]
            if summands:
                _bypass(max(summands, key=nodes.index), [node])
    prepared.delete_all_unused_submodules()
    prepared.recompile()


def _bypass(observer: Node, users: list[Node]) -> None:
    """Let `users` read what `observer` reads, and erase it when no user is left."""
    for user in users:
        user.replace_input_with(observer, observer.all_input_nodes[0])
    if not observer.users:
        observer.graph.erase_node(observer)


def _is_summand(prepared: GraphModule, node: Node) -> bool:
    """Whether `node` observes what a layer computes for one sum alone."""
    if _observer(prepared, node) is None or len(node.users) != 1:
        return False
    layer = node.all_input_nodes[0]
    return len(layer.users) == 1 and is_quantized_layer(prepared, layer)


def _observer(prepared: GraphModule, node: Node) -> ActivationObserver | None:
    module = prepared.get_submodule(str(node.target)) if node.op == "call_module" else None
    return module if isinstance(module, ActivationObserver) else None
