"""Reference layers as torch's exporter is shown them: an operator dequantizes their integers."""

from collections import defaultdict
from dataclasses import astuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule

from ...backend.reference import ReferenceConv2d, ReferenceLayer, ReferenceLinear
from ...lowering.grids import DEQUANTIZE, QUANTIZE
from ...lowering.int8.instructions import LevelGrid
from ...lowering.reference_view import ReferenceView, is_dequantize
from ...quant.weights.quantized_weight import per_row
from ...reparam.coarse_fine import add_to_centre, centre_index

DEQUANTIZE_ROWS = torch.ops.quantized_decomposed.dequantize_per_channel.default
_LARGEST_BIAS = 2**30  # Of an int32 sum, it leaves half to the products.


def write_layers(graph_module: GraphModule, *, dequantizes_all: bool) -> None:
    """Put `WrittenConv2d` and `WrittenLinear` in the place of reference layers.

    Args:
        graph_module: A reference graph, which is changed.
        dequantizes_all: See `Target`.
    """
    grids = _input_grids(graph_module) if dequantizes_all else {}
    for name, module in list(graph_module.named_modules()):
        if isinstance(module, ReferenceConv2d):
            graph_module.set_submodule(name, WrittenConv2d(module, grids.get(name)))
        elif isinstance(module, ReferenceLinear):
            graph_module.set_submodule(name, WrittenLinear(module, grids.get(name)))


def _input_grids(graph_module: GraphModule) -> dict[str, LevelGrid]:
    """The grid of what each layer reads, by its name, where that is on one."""
    view = ReferenceView(graph_module)
    found: dict[str, set[LevelGrid | None]] = defaultdict(set)
    for node in graph_module.graph.nodes:
        if node.op == "call_module" and isinstance(view.module(node), ReferenceLayer):
            source = node.all_input_nodes[0]
            found[str(node.target)].add(view.grid(source) if is_dequantize(source) else None)
    only = {name: grids.pop() for name, grids in found.items() if len(grids) == 1}
    return {name: grid for name, grid in only.items() if grid is not None}


class _Rows(nn.Module):
    """Integers with a scale for each row."""

    values: Tensor
    scale: Tensor

    def __init__(self, values: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values)
        self.register_buffer("scale", scale.expand(len(values)).contiguous())

    def forward(self) -> Tensor:
        """What they stand for, in float32."""
        dtype = self.values.dtype
        ends = torch.iinfo(dtype)
        real: Tensor = DEQUANTIZE_ROWS(self.values, self.scale, None, 0, ends.min, ends.max, dtype)
        return real


class _WrittenLayer(nn.Module):
    """Weight and bias, each float or integers that are dequantized."""

    bias: Tensor | None

    def __init__(self, layer: ReferenceLayer, input_grid: LevelGrid | None) -> None:
        super().__init__()
        self.weight, self.integer_bias = _Rows(layer.values, layer.scale), None
        self.register_buffer("bias", layer.bias)
        if layer.bias is not None and input_grid is not None:
            self.weight, self.integer_bias = _integer_parts(layer, layer.bias, input_grid.scale)
            self.bias = None

    def real_bias(self) -> Tensor | None:
        """The bias in float32."""
        return self.bias if self.integer_bias is None else self.integer_bias()


class WrittenConv2d(_WrittenLayer):
    """A convolution; of a weight in two parts, the sum of two, for integers have one scale."""

    def __init__(self, conv: ReferenceConv2d, input_grid: LevelGrid | None) -> None:
        super().__init__(conv, input_grid)
        self.input_grid = input_grid
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups
        self.padding_mode, self.padding_per_side = conv.padding_mode, conv._padding_per_side
        self.padding = conv.padding if conv.padding_mode == "zeros" else (0, 0)
        self.coarse, self.coarse_padding = _coarse_part(conv, self.padding)

    def forward(self, input: Tensor) -> Tensor:
        """As `ReferenceConv2d`, up to the rounding of a sum and of the bias."""
        padded = input
        if self.padding_mode != "zeros":
            padded = self._on_grid(F.pad(input, self.padding_per_side, mode=self.padding_mode))
        stride, dilation, groups, bias = self.stride, self.dilation, self.groups, self.real_bias()
        fine = F.conv2d(padded, self.weight(), bias, stride, self.padding, dilation, groups)
        if self.coarse is None:
            return fine
        padding = self.coarse_padding
        return fine + F.conv2d(padded, self.coarse(), None, stride, padding, dilation, groups)

    def _on_grid(self, padded: Tensor) -> Tensor:
        """The same numbers, dequantized again behind the padding."""
        if self.input_grid is None:
            return padded
        grid = (*astuple(self.input_grid), torch.uint8)
        on_grid: Tensor = DEQUANTIZE(QUANTIZE(padded, *grid), *grid)
        return on_grid


class WrittenLinear(_WrittenLayer):
    """A linear layer; of a weight in two parts, the sum of two."""

    def __init__(self, linear: ReferenceLinear, input_grid: LevelGrid | None) -> None:
        super().__init__(linear, input_grid)
        self.coarse: _Rows | None = None
        if linear.coarse_values is not None and linear.coarse_scale is not None:
            self.coarse = _Rows(linear.coarse_values, linear.coarse_scale)

    def forward(self, input: Tensor) -> Tensor:
        """As `ReferenceLinear`, up to the rounding of a sum and of the bias."""
        fine = F.linear(input, self.weight(), self.real_bias())
        return fine if self.coarse is None else fine + F.linear(input, self.coarse())


def _integer_parts(layer: ReferenceLayer, bias: Tensor, input_scale: float) -> tuple[_Rows, _Rows]:
    """Weight and bias, whose step is that of the products.

    The weights of a dead channel may be so small that its bias has no room in their steps. Then
    theirs are made larger, which changes the outputs by less than `bias` times 2**-30 for each
    level of the inputs.
    """
    scale = layer.scale.expand(len(layer.values))
    wide_enough = torch.maximum(scale, bias.abs() / (_LARGEST_BIAS * input_scale))
    values = torch.round(layer.values * per_row(scale / wide_enough, layer.values))
    step = wide_enough * input_scale
    integers = torch.round(bias.double() / step.double()).to(torch.int32)
    return _Rows(values.to(layer.values.dtype), wide_enough), _Rows(integers, step)


def _coarse_part(
    conv: ReferenceConv2d, padding: str | tuple[int, ...]
) -> tuple[_Rows | None, str | tuple[int, ...]]:
    """The coarse weight with the padding of its own convolution, which is 1x1 where that can be."""
    if conv.coarse_values is None or conv.coarse_scale is None:
        return None, padding
    values = conv.coarse_values
    if values.shape != conv.values.shape:
        centre = centre_index((conv.values.shape[2], conv.values.shape[3]))
        rest = (0, 0) if isinstance(padding, str) else _less(padding, conv.dilation, centre)
        if not isinstance(padding, str) and min(rest) >= 0:
            return _Rows(values, conv.coarse_scale), rest
        values = add_to_centre(torch.zeros_like(conv.values), values)
    return _Rows(values, conv.coarse_scale), padding


def _less(
    padding: tuple[int, ...], dilation: tuple[int, ...], centre: tuple[int, int]
) -> tuple[int, ...]:
    """The padding that a 1x1 kernel needs in the place of one with its centre there."""
    return tuple(p - d * c for p, d, c in zip(padding, dilation, centre, strict=True))
