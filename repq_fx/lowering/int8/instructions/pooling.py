"""Instructions that reduce windows of pixels to one."""

import torch.nn.functional as F
from torch import Tensor

from ....ops import CompiledProgram
from .instruction import Instruction
from .level_grid import LevelGrid

Pair = tuple[int, int]


class MaxPool(Instruction):
    """The highest level of each window; what lies outside the image never wins."""

    def __init__(self, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding, self.dilation = kernel, stride, padding, dilation

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 ``[N, C, H, W]`` to ``[N, C, H', W']``."""
        window = (self.kernel, self.stride, self.padding, self.dilation)
        return F.max_pool2d(input.float(), *window).to(input.dtype)

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.max_pool(
            *inputs, list(self.kernel), list(self.stride), list(self.padding), list(self.dilation)
        )


class AveragePool(Instruction):
    """The mean of each window, rounded to `output_grid`.

    Args:
        kernel: Rows and columns of a window; None for the whole image. Here and in the stride -2
            and -1 stand for the height and the width of the image.
        stride: From one window to the next.
        padding: Real zeros on each side.
        count_padding: Whether they count in the mean.
        input_grid: Of the input.
        output_grid: Of the means.
    """

    def __init__(
        self,
        kernel: Pair | None,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        *,
        count_padding: bool = True,
        input_grid: LevelGrid,
        output_grid: LevelGrid,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.count_padding = count_padding
        self.input_grid, self.output_grid = input_grid, output_grid

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 ``[N, C, H, W]`` to ``[N, C, H', W']``."""
        values = self.input_grid.dequantize(input)
        if self.kernel is None:
            means = values.mean((-2, -1), keepdim=True)
        else:
            kernel, stride = (
                [size if size > 0 else input.shape[size] for size in sizes]
                for sizes in (self.kernel, self.stride)
            )
            means = F.avg_pool2d(
                values, kernel, stride, self.padding,
                count_include_pad=self.count_padding,
            )  # fmt: skip
        return self.output_grid.quantize(means)

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.average_pool(
            *inputs, None if self.kernel is None else list(self.kernel), list(self.stride),
            list(self.padding), self.count_padding,
            self.input_grid.program_argument, self.output_grid.program_argument,
        )  # fmt: skip
