"""Integer layers, plain and split, against oneDNN's INT8 ones and float32, batch 1."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.fx import Graph, GraphModule

from repq_fx.lowering.int8.instructions import (
    ConvolutionGeometry,
    Epilogue,
    Int8Convolution,
    Int8Program,
    LayerGrids,
    LevelGrid,
)
from repq_fx.quant import QuantizedWeight

# Kernel, channels in and out, pixels on a side, stride, groups: of RepVGG-A0 and MobileOne-S0.
SHAPES = {
    "stem 3-48 at 224": (3, 3, 48, 224, 2, 1),
    "3x3 48 at 56": (3, 48, 48, 56, 1, 1),
    "3x3 96 at 28": (3, 96, 96, 28, 1, 1),
    "3x3 192 at 14": (3, 192, 192, 14, 1, 1),
    "3x3 192-1280 at 14": (3, 192, 1280, 14, 2, 1),
    "1x1 48 at 56": (1, 48, 48, 56, 1, 1),
    "1x1 128 at 28": (1, 128, 128, 28, 1, 1),
    "1x1 256 at 14": (1, 256, 256, 14, 1, 1),
    "1x1 1024 at 7": (1, 1024, 1024, 7, 1, 1),
    "depthwise 48 at 56": (3, 48, 48, 56, 1, 48),
    "depthwise 128 at 28": (3, 128, 128, 28, 1, 128),
    "depthwise 256 at 14": (3, 256, 256, 14, 1, 256),
}
GRID, ZERO_POINT = LevelGrid(0.03, 0), torch.zeros(1, dtype=torch.int64)


def integers(*shape: int) -> Tensor:
    return torch.randint(-127, 128, shape, dtype=torch.int8)


def candidates(
    kernel: int, channels_in: int, out: int, pixels: int, stride: int, groups: int
) -> dict[str, Callable[[], object]]:
    """Callables without arguments, of one layer."""
    image = torch.randint(0, 256, (1, channels_in, pixels, pixels), dtype=torch.uint8)
    image = image.contiguous(memory_format=torch.channels_last)
    geometry = ConvolutionGeometry((stride,) * 2, (kernel // 2,) * 2, (1, 1), groups)
    weight, scale = integers(out, channels_in // groups, kernel, kernel), torch.full((out,), 1e-4)
    coarse = integers(out, channels_in // groups, 1, 1)
    plain = QuantizedWeight(weight, scale, 8)
    split = QuantizedWeight(weight, scale, 8, coarse, 10 * scale, 8)
    floating = torch.nn.Conv2d(channels_in, out, kernel, stride, kernel // 2, groups=groups).to(
        memory_format=torch.channels_last
    )
    packed = torch.ops.onednn.qconv_prepack(
        weight, scale, GRID.scale, 0, [stride] * 2, [kernel // 2] * 2, [1, 1], groups,
        list(image.shape),
    )  # fmt: skip
    bias = torch.zeros(out)

    def onednn() -> Tensor:
        result: Tensor = torch.ops.onednn.qconv2d_pointwise(
            image, GRID.scale, 0, packed, scale, ZERO_POINT, bias, [stride] * 2,
            [kernel // 2] * 2, [1, 1], groups, 0.05, 0, torch.uint8, "none", [], "",
        )  # fmt: skip
        return result

    values = image.float()
    programs = {
        "repq_fx": program(plain, bias, geometry),
        "repq_fx split": program(split, bias, geometry),
    }
    calls: dict[str, Callable[[], object]] = {
        "repq_fx": lambda: programs["repq_fx"](image),
        "onednn": onednn,
        "float32": lambda: floating(values),
    }
    if kernel > 1:
        calls["repq_fx split"] = lambda: programs["repq_fx split"](image)
    return calls


def program(weight: QuantizedWeight, bias: Tensor, geometry: ConvolutionGeometry) -> Int8Program:
    layer = Int8Convolution(weight, bias, LayerGrids(GRID, Epilogue(LevelGrid(0.05, 0))), geometry)
    graph = Graph()
    graph.output(graph.call_module("layer", (graph.placeholder("image"),)))
    return Int8Program(GraphModule({"layer": layer}, graph))


@pytest.mark.parametrize("name", ["repq_fx", "repq_fx split", "onednn", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_layer(benchmark: BenchmarkFixture, shape: str, name: str) -> None:
    benchmark.group = f"int8 layer, {shape}"
    calls = candidates(*SHAPES[shape])
    if name not in calls:
        pytest.skip("a 1x1 kernel is not split")
    with torch.inference_mode():
        benchmark(calls[name])
