"""Qualified names for the convolutions that replace regions."""

from collections.abc import Iterable
from itertools import count, takewhile
from operator import attrgetter

import torch
from torch import nn
from torch.fx import GraphModule

from .region import Candidate


def read_targets(candidate: Candidate) -> tuple[str, ...]:
    """Qualified names of the modules that a region calls and the tensors that it reads."""
    targets: dict[str, None] = {}
    for node in candidate.interior:
        constants = (operand for operand in node.all_input_nodes if operand.op == "get_attr")
        called = (node,) if node.op == "call_module" else ()
        targets |= dict.fromkeys(str(read.target) for read in (*constants, *called))
    return tuple(targets)


def preferred_name(candidate: Candidate) -> str:
    """The convolution's own name where one replaces one, else that of the sum of branches."""
    if _is_one_to_one(candidate):
        (node,) = candidate.convs
        return str(node.target)
    return _sum_name(candidate)


class RegionNames:
    """Hands out names that collide with nothing which stays in the model.

    Args:
        graph_module: The model before any region is replaced.
        merged: All regions that will be replaced.
    """

    def __init__(self, graph_module: GraphModule, merged: Iterable[Candidate]) -> None:
        self._graph_module = graph_module
        self._named: dict[tuple[str, ...], list[tuple[str, nn.Conv2d]]] = {}
        replaced = {node for candidate in merged for node in candidate.interior}
        self._used = {
            str(node.target)
            for node in graph_module.graph.nodes
            if (node.op == "call_module" and node not in replaced)
            or (node.op == "get_attr" and not replaced.issuperset(node.users))
        }

    def name(self, candidate: Candidate, conv: nn.Conv2d) -> tuple[str, bool]:
        """A name for `conv`, and whether it is new.

        Calls of a shared module give equal convolutions, which then are shared as well.
        """
        twins = self._named.setdefault(read_targets(candidate), [])
        for name, twin in twins:
            if _is_equal(conv, twin):
                return name, False
        name = preferred_name(candidate)
        if not (_is_one_to_one(candidate) and self._is_unused(name)):
            base = _sum_name(candidate)
            names = (base if index == 0 else f"{base}_{index}" for index in count())
            name = next(name for name in names if self._is_unused(name) and not self._exists(name))
        self._used.add(name)
        twins.append((name, conv))
        return name, True

    def _is_unused(self, name: str) -> bool:
        # A tensor inside a module keeps it in use, and a called module keeps its own submodules.
        return not any(
            f"{u}.".startswith(f"{name}.") or name.startswith(f"{u}.") for u in self._used
        )

    def _exists(self, name: str) -> bool:
        try:
            attrgetter(name)(self._graph_module)
        except AttributeError:
            return False
        return True


def _is_one_to_one(candidate: Candidate) -> bool:
    return len(candidate.convs) == candidate.branches == 1


def _sum_name(candidate: Candidate) -> str:
    owners = [target.split(".")[:-1] for target in read_targets(candidate)]
    shared = takewhile(lambda entries: len(set(entries)) == 1, zip(*owners, strict=False))
    return ".".join([*(entries[0] for entries in shared), "reparam_conv"])


def _is_equal(first: nn.Conv2d, second: nn.Conv2d) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return (
        repr(first) == repr(second)
        and ours.keys() == theirs.keys()
        and all(torch.equal(ours[key], theirs[key]) for key in ours)
    )
