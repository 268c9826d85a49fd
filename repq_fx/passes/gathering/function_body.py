"""A part of a graph as a graph of its own."""

import copy
from typing import Any

from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node, map_arg

from ..graph.constants import Constants
from ..graph.mutation import mutated_operand


def function_body(
    graph_module: GraphModule, source: Node, steps: tuple[Node, ...], constants: Constants
) -> GraphModule:
    """A graph of its own that computes the last of `steps` from `source`.

    Args:
        graph_module: Where the steps are; not changed.
        source: The input.
        steps: In the order of the graph; what else they read is constant.
        constants: Of the graph, which become buffers or arguments.

    Returns:
        A graph in evaluation mode that shares nothing with `graph_module`.
    """
    graph, owner = Graph(), nn.Module()
    given = graph.placeholder("input")
    if any(mutated_operand(graph_module, step) is not None for step in steps):
        given = graph.call_method("clone", (given,))
    copies = {source: given}

    def copied(operand: Node) -> Any:
        if operand not in copies and isinstance(constants.known(operand), Tensor):
            owner.register_buffer(operand.name, constants.known(operand).detach().clone())
            copies[operand] = graph.get_attr(operand.name)
        return copies[operand] if operand in copies else constants.known(operand)

    for step in steps:
        args, kwargs = map_arg((step.args, step.kwargs), copied)
        target = step.target
        if step.op == "call_module":
            target = step.name
            owner.add_module(target, copy.deepcopy(graph_module.get_submodule(str(step.target))))
        copies[step] = graph.create_node(step.op, target, args, kwargs)
    graph.output(copies[steps[-1]])
    return GraphModule(owner, graph).eval()
