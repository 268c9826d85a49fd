"""Instructions that only move, select or repeat levels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ....ops import CompiledProgram
from .instruction import Instruction


class Concatenate(Instruction):
    """Tensors one after the other along the axis of channels, the second."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map uint8 ``[N, C_i, ...]`` to ``[N, sum of C_i, ...]``."""
        return torch.cat(inputs, 1)

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.concatenate(list(inputs))


class ChannelSlice(Instruction):
    """Channels ``start .. stop - 1``, on the second axis."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 ``[N, C, ...]`` to ``[N, stop - start, ...]``."""
        return input[:, self.start : self.stop]

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.channel_slice(*inputs, self.start, self.stop)


class ChannelChunk(Instruction):
    """One of `chunks` runs of channels, on the second axis, by the rule of `torch.chunk`."""

    def __init__(self, chunks: int, index: int) -> None:
        super().__init__()
        self.chunks, self.index = chunks, index

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 ``[N, C, ...]`` to ``[N, C / chunks, ...]``."""
        return input.chunk(self.chunks, 1)[self.index]

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.channel_chunk(*inputs, self.chunks, self.index)


class UpsampleNearest(Instruction):
    """Repeats pixels, by a whole factor or up to a size; one of the two is None."""

    def __init__(self, factor: tuple[int, int] | None, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.factor, self.size = factor, size

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 ``[N, C, H, W]`` to ``[N, C, H', W']``."""
        if self.size is not None:
            return F.interpolate(input, self.size)
        return F.interpolate(input, scale_factor=self.factor)

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        factor, size = (None if each is None else list(each) for each in (self.factor, self.size))
        return program.upsample_nearest(*inputs, factor, size)


class PixelShuffle(Instruction):
    """Channels to pixels: `torch.pixel_shuffle`."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 ``[N, C * factor**2, H, W]`` to ``[N, C, H * factor, W * factor]``."""
        return F.pixel_shuffle(input, self.factor)

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.pixel_shuffle(*inputs, self.factor)


class Flatten(Instruction):
    """All values behind the first axis as one row, in the order of torch."""

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 ``[N, ...]`` to ``[N, values]``."""
        return input.flatten(1)

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.flatten(*inputs)


class Slice(Instruction):
    """``tensor[start:stop:step]`` along one axis, counted from the end if negative."""

    def __init__(self, axis: int, start: int, stop: int, step: int) -> None:
        super().__init__()
        self.axis, self.start, self.stop, self.step = axis, start, stop, step

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 to uint8, shorter along the axis."""
        part: Tensor = torch.ops.aten.slice.Tensor(
            input, self.axis, self.start, self.stop, self.step
        )
        return part

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.slice(*inputs, self.axis, self.start, self.stop, self.step)


class Select(Instruction):
    """``tensor[index]`` along one axis, counted from the end if negative."""

    def __init__(self, axis: int, index: int) -> None:
        super().__init__()
        self.axis, self.index = axis, index

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 to uint8 without the axis."""
        return input.select(self.axis, self.index)

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.select(*inputs, self.axis, self.index)


class Pad(Instruction):
    """Pixels of one level on the left, on the right, above and below."""

    def __init__(self, padding: tuple[int, int, int, int], level: int) -> None:
        super().__init__()
        self.padding, self.level = padding, level

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 ``[N, C, H, W]`` to ``[N, C, H', W']``."""
        return F.pad(input, self.padding, value=self.level)

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.pad(*inputs, list(self.padding), self.level)
