"""Convolution and linear layers: uint8 in, integer products, uint8 or float32 out."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ....ops import CompiledProgram
from ....quant import QuantizedWeight
from ....reparam.coarse_fine import centre_of
from .epilogue import Epilogue
from .instruction import Instruction
from .level_grid import LevelGrid

LARGEST_SETTING = 2**16
"""Of strides, paddings, dilations and numbers of groups; as in csrc/cpu/int8/steps/settings.h."""


@dataclass(frozen=True)
class ConvolutionGeometry:
    """Rows and columns of a convolution; `padding` is real zeros on each side.

    Raises:
        ValueError: A number is no such number, or above `LARGEST_SETTING`.
    """

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        pairs = (("stride", self.stride, 1), ("padding", self.padding, 0),
                 ("dilation", self.dilation, 1), ("groups", (self.groups, 1), 1))  # fmt: skip
        for name, pair, least in pairs:
            if len(pair) != 2 or not all(
                isinstance(each, int) and least <= each <= LARGEST_SETTING for each in pair
            ):
                raise ValueError(
                    f"ConvolutionGeometry: expected {name} from {least} to {LARGEST_SETTING}, "
                    f"got {pair!r}."
                )

    def convolve(self, values: Tensor, weight: Tensor) -> Tensor:
        """`conv2d` without a bias."""
        return F.conv2d(values, weight, None, self.stride, self.padding, self.dilation, self.groups)


@dataclass(frozen=True)
class LayerGrids:
    """Between which grids a layer is.

    Attributes:
        input: Of the input.
        epilogue: What follows the sums.
        addend: Of a second input, which is added to the sums; None without one.
    """

    input: LevelGrid
    epilogue: Epilogue
    addend: LevelGrid | None = None

    @property
    def program_arguments(self) -> tuple[object, ...]:
        """As the methods of a compiled program take them."""
        addend = None if self.addend is None else self.addend.program_argument
        return self.input.program_argument, addend, *self.epilogue.program_arguments


class Int8Layer(Instruction):
    """What the layers share: integer weights, and what follows the sums.

    ``epilogue(input_scale * (weight_scale * sum(weight * x) + coarse_scale * sum(coarse * x))
    + bias + addend)`` where x is the input without its zero point ("CFWS", section 3.3).

    Args:
        weight: int8 ``[out, ...]``, one scale for each output channel; perhaps with a coarse part
            ``[out, in/groups, 1, 1]`` at the centre tap.
        bias: float32 ``[out]`` or None.
        grids: Of the inputs, and what follows the sums.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor | None
    coarse: Tensor | None
    coarse_scale: Tensor | None

    # Of one number for each output channel, beside an output of any rank.
    channel_shape: tuple[int, ...]

    def __init__(self, weight: QuantizedWeight, bias: Tensor | None, grids: LayerGrids) -> None:
        super().__init__()
        channels = weight.values.shape[0]
        coarse_scale = weight.coarse_scale
        self.register_buffer("weight", weight.values)
        self.register_buffer("weight_scale", weight.scale.expand(channels).contiguous())
        self.register_buffer("bias", bias)
        self.register_buffer("coarse", weight.coarse_values)
        self.register_buffer(
            "coarse_scale",
            None if coarse_scale is None else coarse_scale.expand(channels).contiguous(),
        )
        self.grids = grids

    @property
    def is_split(self) -> bool:
        """Whether the weight has a coarse and a fine part."""
        return self.coarse is not None

    def _finish(self, sums: Tensor, coarse_sums: Tensor | None, addend: Tensor | None) -> Tensor:
        """From exact sums in float64 to the output."""
        shape = self.channel_shape
        output = sums * self.weight_scale.double().reshape(shape)
        if coarse_sums is not None and self.coarse_scale is not None:
            output = output + coarse_sums * self.coarse_scale.double().reshape(shape)
        output = output * self.grids.input.scale
        if self.bias is not None:
            output = output + self.bias.double().reshape(shape)
        if addend is not None and self.grids.addend is not None:
            output = output + self.grids.addend.dequantize(addend)
        return self.grids.epilogue(output.float(), shape)


class Int8Convolution(Int8Layer):
    """Convolution over ``[N, C, H, W]``, with the arguments of `Int8Layer` and a geometry.

    As in torch, a single image may come without the axis N.
    """

    channel_shape = (-1, 1, 1)

    def __init__(
        self,
        weight: QuantizedWeight,
        bias: Tensor | None,
        grids: LayerGrids,
        geometry: ConvolutionGeometry,
    ) -> None:
        super().__init__(weight, bias, grids)
        self.geometry = geometry

    def forward(self, input: Tensor, addend: Tensor | None = None) -> Tensor:
        """Map uint8 ``[N, C, H, W]`` to uint8 or float32 ``[N, out, H', W']``."""
        shifted = input.double() - self.grids.input.zero_point
        sums = self.geometry.convolve(shifted, self.weight.double())
        coarse_sums = None
        if self.coarse is not None:
            coarse = torch.zeros_like(self.weight, dtype=torch.float64)
            centre_of(coarse).copy_(self.coarse)
            coarse_sums = self.geometry.convolve(shifted, coarse)
        return self._finish(sums, coarse_sums, addend)

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        geometry = self.geometry
        return program.convolution(
            list(inputs), self.weight, self.weight_scale, self.bias, self.coarse, self.coarse_scale,
            list(geometry.stride), list(geometry.padding), list(geometry.dilation), geometry.groups,
            *self.grids.program_arguments,
        )  # fmt: skip


class Int8Linear(Int8Layer):
    """Linear layer over the last dimension, with the arguments of `Int8Layer`."""

    channel_shape = (-1,)

    def forward(self, input: Tensor, addend: Tensor | None = None) -> Tensor:
        """Map uint8 ``[..., in]`` to uint8 or float32 ``[..., out]``."""
        sums = F.linear(input.double() - self.grids.input.zero_point, self.weight.double())
        return self._finish(sums, None, addend)

    def emit(self, program: CompiledProgram, *inputs: int) -> int:
        """See `Instruction`."""
        return program.linear(
            list(inputs), self.weight, self.weight_scale, self.bias,
            *self.grids.program_arguments,
        )  # fmt: skip
