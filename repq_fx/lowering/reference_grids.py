"""The grids of a reference graph, where its state dict finds them."""

import torch
from torch.fx import GraphModule

from .fixed_settings import FixedSettings

QUANTIZE = torch.ops.quantized_decomposed.quantize_per_tensor.default
DEQUANTIZE = torch.ops.quantized_decomposed.dequantize_per_tensor.default

_NAME = "quantization_grids"


class ReferenceGrids(FixedSettings):
    """What the quantize and dequantize nodes of a graph are called with; no node calls this."""

    def __init__(self, graph_module: GraphModule) -> None:
        super().__init__()
        nodes = graph_module.graph.nodes
        self._text = repr([n.args[1:] for n in nodes if n.target in (QUANTIZE, DEQUANTIZE)])

    def settings(self) -> str:
        """See `FixedSettings`."""
        return self._text


def note_grids(graph_module: GraphModule) -> None:
    """Let the state dict of a graph with grids tell which they are, in place."""
    if any(node.target is QUANTIZE for node in graph_module.graph.nodes):
        # First, so that a state is refused before anything of it is loaded.
        graph_module._modules = {_NAME: ReferenceGrids(graph_module), **graph_module._modules}
