"""A step of AdaRound's rounding, forward and backward: ours against the formulas in torch."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from repq_fx.ops import soft_round

BETA = 5.0


def _in_torch(weight: Tensor, logits: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    scale = scale.view(-1, 1, 1, 1)
    h = (1.2 * logits.sigmoid() - 0.1).clamp(0, 1)
    value = ((weight / scale).floor() + h).clamp(-8, 7) * scale
    return value, (1 - (2 * h - 1).abs().pow(BETA)).sum()


def _in_one_op(weight: Tensor, logits: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return soft_round(weight, logits, scale, torch.zeros_like(scale), -8, 7, 0, BETA)


CANDIDATES: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "repq_fx": _in_one_op,
    "torch": _in_torch,
}


@pytest.mark.benchmark(group="soft_round forward and backward")
@pytest.mark.parametrize("name", CANDIDATES)
def test_step(benchmark: BenchmarkFixture, name: str) -> None:
    weight, logits, grad = torch.randn(
        3, 512, 512, 3, 3, generator=torch.Generator().manual_seed(0)
    ).unbind()
    logits.requires_grad_()
    scale = weight.abs().amax((1, 2, 3)) / 7

    def step() -> Tensor:
        value, regularizer = CANDIDATES[name](weight, logits, scale)
        (result,) = torch.autograd.grad(
            (value, regularizer), logits, (grad, regularizer.new_ones(()))
        )
        return result

    benchmark(step)
