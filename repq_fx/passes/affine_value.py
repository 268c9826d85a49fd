"""What the region finder knows about a node's value, and what a rule may ask about the node."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ..reparam import ConvMap


@dataclass(frozen=True)
class AffineValue:
    """What is known about the value of one node.

    Attributes:
        views: For each source, the convolution that gives this value from the source's.
        refusals: For each source of which the value is affine but not one convolution, why.
    """

    views: Mapping[Node, ConvMap] = field(default_factory=dict)
    refusals: Mapping[Node, str] = field(default_factory=dict)


OPAQUE = AffineValue()
"""The value of a node that is affine in nothing but itself."""


@dataclass(frozen=True)
class Call:
    """One node, as its rule sees it.

    Attributes:
        node: The node.
        graph_module: Its owner, for modules and constants.
        shapes: Shapes of all feature maps, which are the 4-D floating-point values.
        values: What is known about earlier nodes.
        device: Where maps are computed.
    """

    node: Node
    graph_module: GraphModule
    shapes: Mapping[Node, torch.Size]
    values: Mapping[Node, AffineValue]
    device: torch.device

    def arguments(self, *names: str) -> dict[str, Any]:
        """The arguments by name, where `names` are the first parameters of the operator."""
        return {**dict(zip(names, self.node.args, strict=False)), **self.node.kwargs}

    def views(self, operand: Any) -> Mapping[Node, ConvMap]:
        """The views of an argument; none if it is not a node that is affine in something."""
        return self.values.get(operand, OPAQUE).views if isinstance(operand, Node) else {}

    def shape(self, operand: Any) -> torch.Size | None:
        """The shape of an argument that is a feature map."""
        return self.shapes.get(operand) if isinstance(operand, Node) else None

    def constant(self, operand: Any) -> Tensor | None:
        """The parameter or buffer that an argument reads, or None."""
        if not isinstance(operand, Node) or operand.op != "get_attr":
            return None
        value = attrgetter(str(operand.target))(self.graph_module)
        return value if isinstance(value, Tensor) else None


def called_module(graph_module: GraphModule, node: Node) -> nn.Module | None:
    """The module that `node` calls, if it calls one that no hook changes."""
    if node.op != "call_module":
        return None
    module = graph_module.get_submodule(str(node.target))
    # Hooks also are how pruning and the older weight and spectral norms compute their weights.
    return None if module._forward_hooks or module._forward_pre_hooks else module


def called_conv2d(graph_module: GraphModule, node: Node) -> nn.Conv2d | None:
    """The convolution that `node` calls; a subclass may compute anything and is not one."""
    module = called_module(graph_module, node)
    return module if type(module) is nn.Conv2d else None
