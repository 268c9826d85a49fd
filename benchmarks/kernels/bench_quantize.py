"""Quantization of activations to uint8: ours against torch."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from repq_fx.ops import quantize, quantize_reference

CANDIDATES: dict[str, Callable[[Tensor], Tensor]] = {
    "repq_fx": lambda x: quantize(x, 0.02, 3, 0, 255),
    "repq_fx_reference": lambda x: quantize_reference(x, 0.02, 3, 0, 255),
    "torch": lambda x: torch.quantize_per_tensor(x, 0.02, 3, torch.quint8),
}


@pytest.mark.benchmark(group="quantize")
@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("name", CANDIDATES)
def test_quantize(benchmark: BenchmarkFixture, activations: Tensor, name: str) -> None:
    benchmark(CANDIDATES[name], activations)
