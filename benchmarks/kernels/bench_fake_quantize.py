"""Fake quantization: ours against torch, and against a copy of the bytes."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from repq_fx.ops import Rounding, fake_quantize, fake_quantize_reference

SCALE, ZERO_POINT = torch.tensor(0.02), torch.tensor(3, dtype=torch.int32)
CHANNEL_SCALES, CHANNEL_ZERO_POINTS = torch.linspace(0.01, 0.1, 64), torch.zeros(64).int()

PER_TENSOR: dict[str, Callable[[Tensor], Tensor]] = {
    "copy": torch.clone,
    "repq_fx": lambda x: fake_quantize(x, SCALE, ZERO_POINT, 0, 255),
    "repq_fx_reference": lambda x: fake_quantize_reference(x, SCALE, ZERO_POINT, 0, 255),
    "torch": lambda x: torch.fake_quantize_per_tensor_affine(x, SCALE, ZERO_POINT, 0, 255),
}
PER_CHANNEL: dict[str, Callable[[Tensor], Tensor]] = {
    "repq_fx": lambda x: fake_quantize(x, CHANNEL_SCALES, CHANNEL_ZERO_POINTS, 0, 255, axis=1),
    "torch": lambda x: torch.fake_quantize_per_channel_affine(
        x, CHANNEL_SCALES, CHANNEL_ZERO_POINTS, 1, 0, 255
    ),
}
RANDOM: dict[str, Callable[[Tensor], Tensor]] = {
    "repq_fx_stochastic": lambda x: fake_quantize(
        x, SCALE, ZERO_POINT, 0, 255, rounding=Rounding.STOCHASTIC, seed=1
    ),
    "repq_fx_qdrop": lambda x: fake_quantize(x, SCALE, ZERO_POINT, 0, 255, keep=0.5, seed=1),
    "torch_qdrop": lambda x: torch.where(
        torch.rand_like(x) < 0.5,
        x,
        torch.fake_quantize_per_tensor_affine(x, SCALE, ZERO_POINT, 0, 255),
    ),
}


@pytest.mark.benchmark(group="fake_quantize per tensor")
@pytest.mark.parametrize("name", PER_TENSOR)
def test_per_tensor(benchmark: BenchmarkFixture, activations: Tensor, name: str) -> None:
    benchmark(PER_TENSOR[name], activations)


@pytest.mark.benchmark(group="fake_quantize per channel")
@pytest.mark.parametrize("name", PER_CHANNEL)
def test_per_channel(benchmark: BenchmarkFixture, activations: Tensor, name: str) -> None:
    benchmark(PER_CHANNEL[name], activations)


@pytest.mark.benchmark(group="fake_quantize with random numbers")
@pytest.mark.parametrize("name", RANDOM)
def test_random(benchmark: BenchmarkFixture, activations: Tensor, name: str) -> None:
    benchmark(RANDOM[name], activations)
