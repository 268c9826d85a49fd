"""Take out of a graph what its outputs do not depend on: assertions, and what nothing reads."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Node

from .mutation import is_own, mutated_operand

_ASSERTIONS: tuple[Callable[..., Any], ...] = (torch._assert,)
_QUESTIONS: tuple[Callable[..., Any], ...] = (
    getattr,
    operator.getitem,
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.mod,
)
_QUESTION_METHODS = ("dim", "size")


def erase_assertions(graph_module: GraphModule) -> None:
    """Erase `torch._assert` and what only it asked for, in place.

    An assertion on the rank of an intermediate tensor, which timm writes into every normalization,
    is a second user of that tensor and would forbid to merge it away. The general dead code
    elimination of torch.fx is no substitute: it drops in-place operators whose result is unused.
    """
    graph = graph_module.graph
    erased = False
    for node in reversed(graph.nodes):
        if not node.users and _is_check(node):
            graph.erase_node(node)
            erased = True
    if erased:
        graph_module.recompile()


def _is_check(node: Node) -> bool:
    if node.op == "call_method":
        return node.target in _QUESTION_METHODS
    return node.op == "call_function" and node.target in (*_ASSERTIONS, *_QUESTIONS)


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
