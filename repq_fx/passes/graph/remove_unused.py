"""Take out of a graph module what its outputs do not depend on."""

from torch.fx import GraphModule, Node

from .mutation import is_own, mutated_operand


def remove_unused(graph_module: GraphModule) -> None:
    """Erase steps that nothing reads, and the modules and tensors that no step uses, in place.

    A step that overwrites a value stays, because others may read that value by another name.

    Args:
        graph_module: A graph in evaluation mode that the caller owns.
    """
    for node in reversed(list(graph_module.graph.nodes)):
        if not node.users and not _has_effect(graph_module, node):
            graph_module.graph.erase_node(node)
    graph_module.delete_all_unused_submodules()
    _delete_unread_tensors(graph_module)
    graph_module.graph.lint()
    graph_module.recompile()


def _has_effect(graph_module: GraphModule, node: Node) -> bool:
    if node.op in ("placeholder", "output") or node.is_impure():
        return True
    operand = mutated_operand(graph_module, node)
    return operand is not None and not is_own(graph_module, operand)


def _delete_unread_tensors(graph_module: GraphModule) -> None:
    """Delete parameters and buffers outside of called modules that no node reads."""
    used = {str(n.target) for n in graph_module.graph.nodes if n.op in ("call_module", "get_attr")}
    for name, _ in (*graph_module.named_parameters(), *graph_module.named_buffers()):
        parts = name.split(".")
        if used.isdisjoint(".".join(parts[:depth]) for depth in range(1, len(parts) + 1)):
            delattr(graph_module.get_submodule(".".join(parts[:-1])), parts[-1])
