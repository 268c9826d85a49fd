"""Layers of the lowered graph: uint8 in, integer products in oneDNN, uint8 or float32 out."""

from collections.abc import Sequence
from functools import cache
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import cfws_conv2d, has_extension, pack_coarse, pack_fine, quantize

CACHES = frozenset({"_packed", "_packed_coarse"})
_NO_ZERO_POINT = torch.zeros(1, dtype=torch.int64)


class Grids(TypedDict):
    """Where a layer's integers lie; `output_scale` None means float32 output."""

    input_scale: float
    input_zero_point: int
    output_scale: float | None
    output_zero_point: int
    output_min: int
    output_max: int


@cache
def runs_on_onednn() -> bool:
    """Whether oneDNN can multiply 8-bit integers here exactly.

    Without VNNI its kernels add products in 16 bits, which saturate; then the layers compute the
    same sums in float64, correctly and slowly.
    """
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.onednn, "qconv2d_pointwise")
        and torch.cpu._is_vnni_supported()
    )


class Int8Layer(nn.Module):
    """What the layers share: integer weights, scales per output channel, bias and grids."""

    weight_int: Tensor
    weight_scale: Tensor
    bias: Tensor | None
    # An input size and the weight packed for it and this machine; neither saved nor copied. Two
    # threads may both pack, and either result serves.
    _packed: tuple[tuple[int, ...], Tensor] | None = None

    def __init__(
        self, weight_int: Tensor, weight_scale: Tensor, bias: Tensor | None, grids: Grids
    ) -> None:
        super().__init__()
        self.register_buffer("weight_int", weight_int)
        self.register_buffer("weight_scale", weight_scale)
        self.register_buffer("bias", bias)
        self.input_scale = grids["input_scale"]
        self.input_zero_point = grids["input_zero_point"]
        self.output_scale = grids["output_scale"]
        self.output_zero_point = grids["output_zero_point"]
        self.output_min = grids["output_min"]
        self.output_max = grids["output_max"]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in CACHES}

    @property
    def _requantization(self) -> tuple[float, int, torch.dtype, str, list[float]]:
        """Output scale, zero point, dtype and the post-op that keeps the output in its range."""
        if self.output_scale is None:
            return 1.0, 0, torch.float32, "none", []
        bounds: list[float] = []
        if (self.output_min, self.output_max) != (0, 255):
            levels = (self.output_min, self.output_max)
            bounds = [(level - self.output_zero_point) * self.output_scale for level in levels]
        post_op = "hardtanh" if bounds else "none"
        return self.output_scale, self.output_zero_point, torch.uint8, post_op, bounds

    def _finish(self, sums: Tensor, channel: int) -> Tensor:
        """From exact integer sums in float64 to the output, without oneDNN."""
        shape = [-1 if dimension == channel else 1 for dimension in range(sums.dim())]
        output = sums.float() * (self.weight_scale * self.input_scale).reshape(shape)
        if self.bias is not None:
            output = output + self.bias.reshape(shape)
        if self.output_scale is None:
            return output
        grid = (self.output_zero_point, self.output_min, self.output_max)
        return quantize(output, self.output_scale, *grid)

    def extra_repr(self) -> str:
        """Shape of the weight and the grids."""
        output = "float32" if self.output_scale is None else f"{self.output_scale:.3g}"
        return f"{tuple(self.weight_int.shape)}, input={self.input_scale:.3g}, output={output}"


class Int8Conv2d(Int8Layer):
    """Convolution with one integer weight.

    Args:
        weight_int: int8 ``[out, in/groups, kh, kw]``.
        weight_scale: float32 ``[out]``.
        bias: float32 ``[out]`` or None.
        stride: Of rows and columns, as the following.
        padding: Zeros (real zeros, whatever the zero point) on each side.
        dilation: Distance of the taps.
        groups: Groups of channels.
        grids: Of input and output.
    """

    def __init__(
        self,
        weight_int: Tensor,
        weight_scale: Tensor,
        bias: Tensor | None,
        *,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        grids: Grids,
    ) -> None:
        super().__init__(weight_int, weight_scale, bias, grids)
        self.stride, self.padding, self.dilation = list(stride), list(padding), list(dilation)
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 ``[N, C, H, W]`` of any memory format to channels-last uint8 or float32."""
        if not runs_on_onednn() or input.numel() == 0:
            shifted = input.double() - self.input_zero_point
            geometry = (self.stride, self.padding, self.dilation, self.groups)
            return self._finish(F.conv2d(shifted, self.weight_int.double(), None, *geometry), 1)
        output: Tensor = torch.ops.onednn.qconv2d_pointwise(
            input.contiguous(memory_format=torch.channels_last),
            self.input_scale, self.input_zero_point, self._packed_for(input),
            self.weight_scale, _NO_ZERO_POINT, self.bias,
            self.stride, self.padding, self.dilation, self.groups,
            *self._requantization, "",
        )  # fmt: skip
        return output

    def _packed_for(self, input: Tensor) -> Tensor:
        """The weight packed for this input's size.

        Without the size oneDNN guesses one, and for some strided layers guesses a layout that
        runs ten times slower.
        """
        size = tuple(input.shape)
        packed = self._packed
        if packed is None or packed[0] != size:
            packed = size, pack_fine(
                self.weight_int, self.weight_scale, self.input_scale, self.input_zero_point,
                self.stride, self.padding, self.dilation, self.groups, size,
            )  # fmt: skip
            self._packed = packed
        return packed[1]


class Int8Linear(Int8Layer):
    """Linear layer with one integer weight ``[out, in]``."""

    def forward(self, input: Tensor) -> Tensor:
        """Map uint8 ``[..., in]`` to uint8 or float32 ``[..., out]``."""
        if not runs_on_onednn() or input.numel() == 0:
            sums = F.linear(input.double() - self.input_zero_point, self.weight_int.double())
            return self._finish(sums, sums.dim() - 1)
        packed = self._packed
        if packed is None:
            packed = (), torch.ops.onednn.qlinear_prepack(self.weight_int, None)
            self._packed = packed
        output: Tensor = torch.ops.onednn.qlinear_pointwise(
            input.contiguous(), self.input_scale, self.input_zero_point, packed[1],
            self.weight_scale, _NO_ZERO_POINT, self.bias, *self._requantization, "",
        )  # fmt: skip
        return output


class CfwsConv2d(Int8Conv2d):
    """Convolution with a fine integer weight and a coarse one at its centre.

    Args:
        coarse_int: int8 ``[out, in/groups, 1, 1]``.
        coarse_scale: float32 ``[out]``.
        options: As for `Int8Conv2d`, whose weight is the fine one.
    """

    coarse_int: Tensor
    coarse_scale: Tensor
    _packed_coarse: Tensor | None = None

    def __init__(self, *, coarse_int: Tensor, coarse_scale: Tensor, **options: Any) -> None:
        super().__init__(**options)
        self.register_buffer("coarse_int", coarse_int)
        self.register_buffer("coarse_scale", coarse_scale)

    def forward(self, input: Tensor) -> Tensor:
        """As `Int8Conv2d`; the exact reference runs where the compiled kernel cannot."""
        fine, coarse = self.weight_int, self.coarse_int
        if has_extension() and runs_on_onednn() and input.numel() > 0:
            if self._packed_coarse is None:
                self._packed_coarse = pack_coarse(self.coarse_int, self.groups)
            fine, coarse = self._packed_for(input), self._packed_coarse
        return cfws_conv2d(
            input, self.input_scale, self.input_zero_point, fine, self.weight_scale, coarse,
            self.coarse_scale, self.bias, self.stride, self.padding, self.dilation, self.groups,
            self.output_scale, self.output_zero_point, self.output_min, self.output_max,
        )  # fmt: skip
