"""Erase assertions on the shape of intermediate tensors."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Node

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
