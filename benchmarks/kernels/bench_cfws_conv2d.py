"""A split convolution against a plain INT8 one of oneDNN and a float32 one, RepVGG-A0 shapes."""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from repq_fx.backend.int8_layers import CfwsConv2d, Grids, Int8Conv2d

# Channels, pixels and groups of a 3x3 layer, batch 1.
SHAPES = {
    "48x56": (48, 56, 1),
    "96x28": (96, 28, 1),
    "192x14": (192, 14, 1),
    "dw128x28": (128, 28, 128),
}
GRIDS = Grids(
    input_scale=0.03, input_zero_point=0,
    output_scale=0.05, output_zero_point=0, output_min=0, output_max=255,
)  # fmt: skip


def layers(channels: int, groups: int) -> dict[str, torch.nn.Module]:
    generator = torch.Generator().manual_seed(0)

    def integers(kernel: int) -> torch.Tensor:
        shape = (channels, channels // groups, kernel, kernel)
        return torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator)

    scale = torch.full((channels,), 1e-4)
    geometry = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": groups}
    common = {"weight_int": integers(3), "weight_scale": scale, "bias": torch.zeros(channels),
              "grids": GRIDS, **geometry}  # fmt: skip
    floating = torch.nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
    return {
        "repq_fx_split": CfwsConv2d(coarse_int=integers(1), coarse_scale=10 * scale, **common),
        "onednn_plain": Int8Conv2d(**common),
        "torch_float32": floating.to(memory_format=torch.channels_last),
    }


@pytest.mark.benchmark(group="cfws_conv2d")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["repq_fx_split", "onednn_plain", "torch_float32"])
def test_cfws_conv2d(benchmark: BenchmarkFixture, shape: str, name: str) -> None:
    channels, pixels, groups = SHAPES[shape]
    image = torch.randint(0, 256, (1, channels, pixels, pixels), dtype=torch.uint8)
    image = image.contiguous(memory_format=torch.channels_last)
    layer = layers(channels, groups)[name]
    with torch.inference_mode():
        benchmark(layer, image.float() if name == "torch_float32" else image)
