"""Instructions that treat each element alone: rounding, tables of levels, sums and products."""

from collections.abc import Callable
from enum import Enum

import torch
from torch import Tensor

from ....ops import CompiledProgram
from .epilogue import Epilogue
from .instruction import Instruction
from .level_grid import LevelGrid

LEVELS = 256


class Quantize(Instruction):
    """float32 to the nearest levels of `grid`."""

    def __init__(self, grid: LevelGrid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, input: Tensor) -> Tensor:
        """Map float32 of any shape to uint8."""
        return self.grid.quantize(input)

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.quantize(*inputs, self.grid.program_argument)


class Dequantize(Instruction):
    """Levels of `grid` to what they stand for."""

    def __init__(self, grid: LevelGrid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 of any shape to float32."""
        return self.grid.dequantize(input)

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.dequantize(*inputs, self.grid.program_argument)


class Lookup(Instruction):
    """Any function of one level: uint8 ``table[level]``, of 256 entries."""

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 of any shape to uint8."""
        return self.table[input.long()]

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.lookup(*inputs, self.table)


class ChannelLookup(Instruction):
    """A function of one level for each channel, on the second axis: uint8 ``tables[C, level]``."""

    tables: Tensor

    def __init__(self, tables: Tensor) -> None:
        super().__init__()
        self.register_buffer("tables", tables)

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 ``[N, C, ...]`` to uint8."""
        channels = torch.arange(input.shape[1], device=input.device)
        return self.tables[channels.reshape(-1, *[1] * (input.dim() - 2)), input.long()]

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.channel_lookup(*inputs, self.tables)


class Combination(str, Enum):
    """Arithmetic of two tensors, by its name in compiled programs."""

    SUM = "sum"
    DIFFERENCE = "difference"
    PRODUCT = "product"


_OPERATORS: dict[Combination, Callable[[Tensor, Tensor], Tensor]] = {
    Combination.SUM: torch.add,
    Combination.DIFFERENCE: torch.sub,
    Combination.PRODUCT: torch.mul,
}


class Combine(Instruction):
    """``epilogue(first op second)``, element by element.

    Args:
        combination: The operation.
        first_grid: Of the first input, of any shape.
        second_grid: Of the second, of the same shape or one that torch repeats up to it.
        epilogue: What follows.
        channel_shape: Of one number for each channel of the epilogue, beside the result.
    """

    # Set where it is read alone: the others are what they were in older files, and so is the
    # fingerprint of their program.
    channel_shape: tuple[int, ...] = (-1,)

    def __init__(
        self,
        combination: Combination,
        first_grid: LevelGrid,
        second_grid: LevelGrid,
        epilogue: Epilogue,
        channel_shape: tuple[int, ...] = (-1,),
    ) -> None:
        super().__init__()
        self.combination = combination
        if epilogue.channels is not None:
            self.channel_shape = channel_shape
        self.first_grid, self.second_grid, self.epilogue = first_grid, second_grid, epilogue

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Map two uint8 tensors to one."""
        values = self.first_grid.dequantize(first), self.second_grid.dequantize(second)
        return self.epilogue(_OPERATORS[self.combination](*values), self.channel_shape)

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.combine(
            list(inputs), self.combination.value, self.first_grid.program_argument,
            self.second_grid.program_argument, *self.epilogue.program_arguments,
            -len(self.channel_shape),
        )  # fmt: skip
