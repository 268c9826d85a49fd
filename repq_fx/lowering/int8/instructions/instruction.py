"""What all instructions of a lowered network are."""

from abc import abstractmethod
from typing import Any

from torch import nn

from ....ops import CompiledProgram


class Instruction(nn.Module):
    """One step from tensors of levels (uint8, or float32 at the borders) to one such tensor.

    `forward` defines the result, in plain PyTorch; `emit` adds the same step to a compiled program,
    which computes it fast. Attributes are plain data and buffers, so that a model file can hold
    them.
    """

    @abstractmethod
    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """Add this step to `program` for the values `inputs`; returns the number of the result."""

    def extra_repr(self) -> str:
        """The plain attributes."""
        plain: dict[str, Any] = {
            name: value
            for name, value in self.__dict__.items()
            if not name.startswith("_") and name != "training"
        }
        return ", ".join(f"{name}={value}" for name, value in plain.items())
