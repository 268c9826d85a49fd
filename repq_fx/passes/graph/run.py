"""Running a graph node by node."""

from typing import Any

from torch import fx
from torch.fx import GraphModule, Node
from torch.fx.immutable_collections import immutable_dict, immutable_list


class GraphRun(fx.Interpreter):
    """Runs a graph as its own code would.

    That code makes new lists and dictionaries for each call. `torch.fx.Interpreter` passes those of
    the node, which nothing may change; but a layer that is kept as a leaf may overwrite its list of
    features. And where a node fails, the error says no more than the operator does.
    """

    def __init__(self, graph_module: GraphModule, *, garbage_collect_values: bool = True) -> None:
        super().__init__(graph_module, garbage_collect_values=garbage_collect_values)
        self.extra_traceback = False

    def fetch_args_kwargs_from_env(self, n: Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The values of the arguments of a node."""
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        named = {name: own_containers(value) for name, value in kwargs.items()}
        return tuple(map(own_containers, args)), named


def own_containers(argument: Any) -> Any:
    """Arguments of a node with new lists and dictionaries in place of those that are its own."""
    if isinstance(argument, immutable_list):
        return [own_containers(entry) for entry in argument]
    if isinstance(argument, immutable_dict):
        return {key: own_containers(entry) for key, entry in argument.items()}
    return tuple(map(own_containers, argument)) if type(argument) is tuple else argument
