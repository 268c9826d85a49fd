"""The real values of uint8 activations: ours against torch."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from repq_fx.ops import dequantize, dequantize_reference, quantize

CANDIDATES: dict[str, Callable[[Tensor], Tensor]] = {
    "repq_fx": lambda levels: dequantize(levels, 0.02, 3),
    "repq_fx_reference": lambda levels: dequantize_reference(levels, 0.02, 3),
    "torch": lambda levels: torch.ops.quantized_decomposed.dequantize_per_tensor(
        levels, 0.02, 3, 0, 255, torch.uint8
    ),
}


@pytest.mark.benchmark(group="dequantize")
@pytest.mark.parametrize("name", CANDIDATES)
def test_dequantize(benchmark: BenchmarkFixture, activations: Tensor, name: str) -> None:
    benchmark(CANDIDATES[name], quantize(activations, 0.02, 3, 0, 255))
