"""What a rule finds: what computes a node's levels, and the nodes it reads."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch.fx import Node

from .instructions import Instruction


@dataclass(frozen=True)
class Match:
    """`instruction`, applied to the levels `inputs`, replaces a quantize node.

    Attributes:
        instruction: The step.
        inputs: Nodes that give its inputs, or steps before it of the same match.
        name: What the step is called in the lowered graph.
    """

    instruction: Instruction
    inputs: tuple["Source", ...]
    name: str


@dataclass(frozen=True)
class Moved:
    """The operation of `node`, done to levels.

    Attributes:
        node: What moves the numbers that the levels stand for.
        sources: What gives its levels, for each tensor that `node` reads.
    """

    node: Node
    sources: Mapping[Node, "Source"]

    @property
    def name(self) -> str:
        """What an instruction that follows is called after."""
        return self.node.name


Source = Node | Match | Moved
"""Levels: those of a node that is there, or of one that is to come."""
