"""The grids of a quantized model, which are no tensors, and a check of them in its state dict."""

from abc import abstractmethod
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from ..quant import QuantizedModule

QUANTIZE = torch.ops.quantized_decomposed.quantize_per_tensor.default
DEQUANTIZE = torch.ops.quantized_decomposed.dequantize_per_tensor.default

_NAME = "quantization_grids"


class FixedSettings(QuantizedModule):
    """Base of modules whose `load_state_dict` refuses the state of one with other settings.

    The grids of activations are plain numbers of a model, no tensors: on them the integers of
    another model would stand for something else. So a state dict holds a fingerprint of them.
    """

    @abstractmethod
    def settings(self) -> str:
        """What decides what the module computes, but for its tensors, as text."""

    def get_extra_state(self) -> Tensor:
        """The fingerprint, as a tensor, which every kind of file can hold."""
        digest = sha256(self.settings().encode()).digest()
        return torch.tensor(list(digest), dtype=torch.uint8)

    def set_extra_state(self, state: Any) -> None:
        """Compare the fingerprint of a state dict with that of this module.

        Raises:
            ValueError: They differ.
        """
        if not (isinstance(state, Tensor) and torch.equal(state.cpu(), self.get_extra_state())):
            raise ValueError(
                "load_state_dict: the state is that of another quantized model, whose activations "
                "have other grids, which no state dict holds; use repq_fx.save and repq_fx.load."
            )


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
