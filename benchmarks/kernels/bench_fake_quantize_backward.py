"""Gradients of fake quantization: ours against torch, and against a copy of the bytes."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from repq_fx.ops import fake_quantize_backward_reference

SCALE, ZERO_POINT = torch.tensor([0.02]), torch.tensor([3.0])

# Gradients of input, scale and zero point.
CANDIDATES: dict[str, Callable[[Tensor, Tensor], object]] = {
    "copy": lambda grad, x: (grad.clone(), x[: len(x) // 2].clone()),  # As many bytes.
    "repq_fx": lambda grad, x: torch.ops.repq_fx.fake_quantize_backward(
        grad, x, SCALE, ZERO_POINT, 0, 255
    ),
    "repq_fx_reference": lambda grad, x: fake_quantize_backward_reference(
        grad, x, SCALE, ZERO_POINT, 0, 255
    ),
    "torch": lambda grad, x: torch.ops.aten._fake_quantize_learnable_per_tensor_affine_backward(
        grad, x, SCALE, ZERO_POINT, 0, 255
    ),
}


@pytest.mark.benchmark(group="fake_quantize backward")
@pytest.mark.parametrize("name", CANDIDATES)
def test_backward(benchmark: BenchmarkFixture, activations: Tensor, name: str) -> None:
    grad = torch.randn(activations.shape, generator=torch.Generator().manual_seed(1))
    benchmark(CANDIDATES[name], grad, activations)
