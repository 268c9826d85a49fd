"""The two networks that reconstruction compares."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from ..backend.prepared_view import PreparedView
from ..quant.data import device_of
from .unit import called_values

Values = Mapping[str, nn.Module | Tensor]


@dataclass(frozen=True)
class Networks:
    """A network that is quantized part by part, and the float network of the same graph.

    Attributes:
        view: Of the first, which is written to.
        original: The second, where identities stand in place of observers.
        values: What the nodes of the first call or get, by qualified name.
        exact: The same of the second.
        device: Of both.
    """

    view: PreparedView
    original: GraphModule
    values: Values
    exact: Values
    device: torch.device

    @staticmethod
    def of(view: PreparedView) -> "Networks":
        """The network of `view`, as `refined_copy` makes it, and a copy in float."""
        network = view.graph_module
        original = copy.deepcopy(network)
        for node in view.observers:
            original.set_submodule(str(node.target), nn.Identity())
        return Networks(
            view, original, called_values(network, network.graph),
            called_values(original, network.graph),
            device_of(network),
        )  # fmt: skip
