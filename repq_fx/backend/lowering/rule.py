"""What a rule finds: the instruction that computes a node's levels, and the nodes it reads."""

from dataclasses import dataclass

from torch.fx import Node

from ..int8 import Instruction


@dataclass(frozen=True)
class Match:
    """`instruction`, applied to the levels `inputs`, replaces a quantize node.

    Attributes:
        instruction: The step.
        inputs: Nodes that give its inputs, or steps before it of the same match.
        name: What the step is called in the lowered graph.
    """

    instruction: Instruction
    inputs: tuple["Node | Match", ...]
    name: str
