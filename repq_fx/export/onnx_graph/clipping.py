"""Functions that only clip, as the ends of the grid behind them."""

from dataclasses import astuple

from torch.fx import GraphModule

from ...lowering.int8.rules.activations import peel
from ...lowering.reference_view import ReferenceView, is_quantize


def clip_by_grids(graph_module: GraphModule) -> None:
    """Narrow the grid of what a ReLU or the like gives to its levels, and drop it, in place.

    Rounding keeps order, so that nothing changes. A runtime that wants a layer next to its rounding
    gets that, also where the grid has levels below zero and the ReLU would be needed.
    """
    view = ReferenceView(graph_module)
    for node in list(graph_module.graph.nodes):
        if not is_quantize(node):
            continue
        value, follower = peel(view, node)
        if follower.only_clips and (follower.factor, follower.offset) == (1.0, 0.0):
            grid = view.grid(node).clipped(*follower.bounds)
            node.args = (value, *astuple(grid), *node.args[5:])
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
