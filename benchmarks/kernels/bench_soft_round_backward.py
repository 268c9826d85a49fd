"""The gradient of AdaRound's rounding and regularizer: ours against autograd of the formulas."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from benchmarks.kernels.bench_soft_round import BETA, in_torch
from repq_fx.ops import soft_round

CANDIDATES: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "repq_fx": lambda w, v, s: soft_round(w, v, s, torch.zeros_like(s), -8, 7, 0, BETA),
    "torch": in_torch,
}


@pytest.mark.benchmark(group="soft_round backward")
@pytest.mark.parametrize("name", CANDIDATES)
def test_soft_round_backward(benchmark: BenchmarkFixture, name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, logits, grad = torch.randn(3, 512, 512, 3, 3, generator=generator).unbind()
    logits.requires_grad_()
    outputs = CANDIDATES[name](weight, logits, weight.abs().amax((1, 2, 3)) / 7)
    grads = (grad, torch.ones(()))
    benchmark(torch.autograd.grad, outputs, logits, grads, retain_graph=True)
