"""The containers and constants around the tensors that a graph returns, which `prepare_fx` loses.

It refuses an output that holds a number, and makes a dictionary of each kind of mapping.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.fx import GraphModule, Node
from torch.fx.node import map_arg


class OutputShell:
    """What a graph returns, apart from the nodes that compute the values in it.

    Args:
        graph_module: The graph; not changed.
    """

    def __init__(self, graph_module: GraphModule) -> None:
        self._returned: Any = graph_module.graph.output_node().args[0]
        self._values: dict[Node, None] = {}
        map_arg(self._returned, self._collect)

    @contextmanager
    def taken_off(self, graph_module: GraphModule) -> Iterator[None]:
        """Let the graph return a tuple of its values for as long as this lasts."""
        output = graph_module.graph.output_node()
        output.args = (tuple(self._values),)
        graph_module.recompile()
        try:
            yield
        finally:
            output.args = (self._returned,)
            graph_module.recompile()

    def put_on(self, prepared: GraphModule) -> None:
        """Give a graph that returns such a tuple what was around it, in place."""
        output = prepared.graph.output_node()
        found: Any = output.args[0]
        values: dict[Node, Node] = dict(zip(self._values, found, strict=True))

        def place(node: Node) -> Node:
            if node in values:
                return values[node]
            args, kwargs = map_arg((node.args, node.kwargs), place)
            function: Any = node.target
            construction: Node = prepared.graph.call_function(function, args, kwargs)
            return construction

        with prepared.graph.inserting_before(output):
            output.args = (map_arg(self._returned, place),)
        prepared.recompile()

    def _collect(self, node: Node) -> Node:
        if _constructs(node):
            map_arg((node.args, node.kwargs), self._collect)
        else:
            self._values[node] = None
        return node


def _constructs(node: Node) -> bool:
    """Whether a node makes a container by a call of its class."""
    return node.op == "call_function" and isinstance(node.target, type)
