"""Names of modules in a graph: which a new one may take, and one for each call of a shared one."""

import copy
from collections.abc import Iterable
from itertools import count

from torch import nn
from torch.fx import GraphModule, Node

_Place = tuple[int, str]
"""A module, by its identity, and the name of an attribute of it."""


def is_free(graph_module: GraphModule, name: str) -> bool:
    """Whether nothing is called `name`, and a module can be put there."""
    *owners, last = name.split(".")
    module: object = graph_module
    for owner in owners:
        module = getattr(module, owner, None)
        if not isinstance(module, nn.Module):
            return module is None
    return not hasattr(module, last)


def free_name(graph_module: GraphModule, *wishes: str) -> str:
    """A name for a new module that is no part of a module that the graph calls.

    Args:
        graph_module: The future owner.
        wishes: Names that are tried in this order, each followed by numbers where it is taken.
            The last one's own part of its path is tried at the end.
    """
    read = ReadNames(graph_module, graph_module.graph.nodes)
    outside = [wish for wish in wishes if not read.calls_owner_of(wish)]
    first = outside[0] if outside else wishes[-1].rpartition(".")[2]
    names = (f"{first}_{index}" if index else first for index in count())
    return next(name for name in names if is_free(graph_module, name))


class ReadNames:
    """What some nodes read, whatever name it has: a module may hang in several places of a model.

    Args:
        graph_module: The owner of the modules and tensors.
        nodes: Nodes of its graph.
    """

    def __init__(self, graph_module: GraphModule, nodes: Iterable[Node]) -> None:
        self._graph_module = graph_module
        self._places: set[_Place] = set()
        self._called: set[int] = set()
        for node in nodes:
            if node.op not in ("call_module", "get_attr"):
                continue
            name = str(node.target)
            self._places.update(self._places_of(name))
            if node.op == "call_module":
                module = graph_module.get_submodule(name)
                self._called.update(map(id, module.modules()))

    def holds(self, name: str) -> bool:
        """Whether one of the nodes would read something else if a new module were called `name`.

        It would if it reads what has this name or something inside it, or calls a module in which
        the new one would be.
        """
        return self._places_of(name)[-1] in self._places or self.calls_owner_of(name)

    def calls_owner_of(self, name: str) -> bool:
        """Whether one of the nodes calls a module in which a module called `name` would be."""
        return any(owner in self._called for owner, _ in self._places_of(name))

    def _places_of(self, name: str) -> list[_Place]:
        """The attributes that are followed to find `name`, as far as they exist, itself last."""
        module: object = self._graph_module
        places: list[_Place] = []
        for part in name.split("."):
            places.append((id(module), part))
            module = getattr(module, part, None)
            if module is None:
                break
        return places


def unshare_modules(graph_module: GraphModule) -> None:
    """Let no two calls share a module that has no tensors, in place.

    Many models make one activation and hand it to all their blocks. The graph then calls it by the
    name of the first, and whoever asks for something else in one block by its name gets it in all.
    A copy is named as a neighbour of the layer that it reads, where there is one.
    """
    first: set[str] = set()
    for node in list(graph_module.graph.nodes):
        if node.op != "call_module":
            continue
        target = str(node.target)
        module = graph_module.get_submodule(target)
        if any(True for _ in (*module.parameters(), *module.buffers())):
            continue
        if target in first:
            name = free_name(graph_module, *_wishes(node))
            graph_module.add_submodule(name, copy.deepcopy(module))
            node.target = name
        first.add(target)
    graph_module.recompile()


def _wishes(node: Node) -> list[str]:
    """The name of the module that `node` calls beside the layer that `node` reads, and itself."""
    own = str(node.target)
    sources = [source for source in node.all_input_nodes[:1] if source.op == "call_module"]
    folders = [str(source.target).rpartition(".")[0] for source in sources]
    return [*(".".join(filter(None, (f, own.rpartition(".")[2]))) for f in folders), own]
