"""INT8 convolution with coarse & fine split weights, as one operator."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .quantize import quantize_reference

NAME = "repq_fx::cfws_conv2d"
# The layout of `pack_coarse`; csrc/cpu/coarse_tile.h has the same numbers.
BLOCK_CHANNELS = 16
QUAD_SIZE = 4

torch.library.define(
    NAME,
    "(Tensor input, float input_scale, int input_zero_point, Tensor fine, Tensor fine_scale,"
    " Tensor coarse, Tensor coarse_scale, Tensor? bias, int[] stride, int[] padding,"
    " int[] dilation, int groups, float? output_scale, int output_zero_point, int quant_min,"
    " int quant_max) -> Tensor",
)


def cfws_conv2d(
    input: Tensor,
    input_scale: float,
    input_zero_point: int,
    fine: Tensor,
    fine_scale: Tensor,
    coarse: Tensor,
    coarse_scale: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    output_scale: float | None,
    output_zero_point: int = 0,
    quant_min: int = 0,
    quant_max: int = 255,
) -> Tensor:
    """Both integer products and one requantization ("CFWS", section 3.3).

    ``y = Q(input_scale * (fine_scale * (fine * x) + coarse_scale * (coarse * x)) + bias)`` with
    ``x = input - input_zero_point`` and ``*`` a convolution; `coarse` lies at the centre tap of
    `fine`. Padding is a real zero, whatever the zero point.

    Plain int8 weights run the reference, in exact integers. Weights from `pack_fine` and
    `pack_coarse` run the compiled kernel, whose result differs from the reference by one level at
    most, in rare ties of the float32 rounding.

    Args:
        input: uint8 ``[N, C, H, W]``, any memory format.
        input_scale: Distance of two levels of the input.
        input_zero_point: Level of the input's zero.
        fine: int8 ``[out, C/groups, kh, kw]`` with odd sides, plain or packed.
        fine_scale: float32 ``[out]``.
        coarse: int8 ``[out, C/groups, 1, 1]``, plain or packed.
        coarse_scale: float32 ``[out]``.
        bias: float32 ``[out]`` or None.
        stride: Of rows and columns.
        padding: Of rows and columns, on both sides.
        dilation: Of rows and columns.
        groups: Groups of channels.
        output_scale: Distance of two levels of the output; None for float32 output.
        output_zero_point: Level of the output's zero.
        quant_min: Lowest output level; the zero point makes it a ReLU.
        quant_max: Highest output level.

    Returns:
        uint8, or float32 without `output_scale`, ``[N, out, H', W']``; the compiled kernel's is
        channels-last. No gradient.

    Raises:
        TypeError: `input` is not uint8.
        ValueError: `input` has not 4 dimensions, or the kernel has an even side.
    """
    output: Tensor = torch.ops.repq_fx.cfws_conv2d(
        input, input_scale, input_zero_point, fine, fine_scale, coarse, coarse_scale, bias,
        stride, padding, dilation, groups, output_scale, output_zero_point, quant_min, quant_max,
    )  # fmt: skip
    return output


def cfws_conv2d_reference(
    input: Tensor,
    input_scale: float,
    input_zero_point: int,
    fine: Tensor,
    fine_scale: Tensor,
    coarse: Tensor,
    coarse_scale: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    output_scale: float | None,
    output_zero_point: int,
    quant_min: int,
    quant_max: int,
) -> Tensor:
    """What every kernel of `cfws_conv2d` computes; float64 holds the integer sums exactly."""
    _check(input, fine)
    whole_coarse = torch.zeros_like(fine)
    whole_coarse[:, :, fine.shape[2] // 2, fine.shape[3] // 2] = coarse[:, :, 0, 0]
    x = input.double() - input_zero_point
    geometry = (list(stride), list(padding), list(dilation), groups)
    fine_sums, coarse_sums = (
        F.conv2d(x, weight.double(), None, *geometry) * scale.double().reshape(-1, 1, 1)
        for weight, scale in ((fine, fine_scale), (whole_coarse, coarse_scale))
    )
    output = (fine_sums + coarse_sums) * input_scale
    if bias is not None:
        output = output + bias.double().reshape(-1, 1, 1)
    if output_scale is None:
        return output.float()
    return quantize_reference(output.float(), output_scale, output_zero_point, quant_min, quant_max)


def pack_fine(
    fine: Tensor,
    fine_scale: Tensor,
    input_scale: float,
    input_zero_point: int,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    input_size: Sequence[int],
) -> Tensor:
    """The weight in the layout that oneDNN wants here for ``[N, C, H, W]``, an opaque tensor."""
    packed: Tensor = torch.ops.onednn.qconv_prepack(
        fine, fine_scale, input_scale, input_zero_point,
        list(stride), list(padding), list(dilation), groups, list(input_size),
    )  # fmt: skip
    return packed


def pack_coarse(coarse: Tensor, groups: int) -> Tensor:
    """The coarse weight in the layout of the compiled kernel.

    Returns:
        int8 ``[out]`` for a depthwise convolution without channel multiplier, else
        ``[groups, blocks, quads, BLOCK_CHANNELS, QUAD_SIZE]``, padded with zeros: a block is 16
        output channels, a quad 4 input channels.
    """
    out_channels, in_channels = coarse.shape[:2]
    if in_channels == 1 and out_channels == groups:
        return coarse.reshape(-1).contiguous()
    grouped = coarse.reshape(groups, out_channels // groups, in_channels)
    pad_in, pad_out = -in_channels % QUAD_SIZE, -grouped.shape[1] % BLOCK_CHANNELS
    padded = F.pad(grouped, (0, pad_in, 0, pad_out))
    shape = (groups, -1, BLOCK_CHANNELS, padded.shape[2] // QUAD_SIZE, QUAD_SIZE)
    return padded.reshape(shape).permute(0, 1, 3, 2, 4).contiguous()


def _check(input: Tensor, fine: Tensor) -> None:
    if input.dtype != torch.uint8:
        dtype = str(input.dtype).removeprefix("torch.")
        raise TypeError(f"cfws_conv2d: expected uint8 input, got {dtype}")
    if input.dim() != 4:
        raise ValueError(f"cfws_conv2d: expected input of 4 dimensions, got {input.dim()}")
    rows, columns = fine.shape[2:]
    if rows % 2 == 0 or columns % 2 == 0:
        raise ValueError(f"cfws_conv2d: expected a kernel with a centre, got {rows}x{columns}")


def _fake(
    input: Tensor,
    input_scale: float,  # noqa: ARG001  (the schema's signature)
    input_zero_point: int,  # noqa: ARG001
    fine: Tensor,
    fine_scale: Tensor,
    coarse: Tensor,  # noqa: ARG001
    coarse_scale: Tensor,  # noqa: ARG001
    bias: Tensor | None,  # noqa: ARG001
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,  # noqa: ARG001
    output_scale: float | None,
    *_output_grid: int,
) -> Tensor:
    _check(input, fine)
    size = [
        (
            input.shape[2 + axis]
            + 2 * padding[axis]
            - dilation[axis] * (fine.shape[2 + axis] - 1)
            - 1
        )
        // stride[axis]
        + 1
        for axis in (0, 1)
    ]
    dtype = torch.float32 if output_scale is None else torch.uint8
    return fine_scale.new_empty((input.shape[0], fine.shape[0], *size), dtype=dtype)


torch.library.impl(NAME, "CompositeExplicitAutograd", cfws_conv2d_reference)
torch.library.register_fake(NAME, _fake)
