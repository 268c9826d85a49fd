"""AdaRound's rounding and its regularizer: ours against the formulas in torch."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from repq_fx.ops import soft_round, soft_round_reference

BETA = 5.0


def in_torch(weight: Tensor, logits: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    scale = scale.view(-1, 1, 1, 1)
    h = (1.2 * logits.sigmoid() - 0.1).clamp(0, 1)
    value = ((weight / scale).floor() + h).clamp(-8, 7) * scale
    return value, (1 - (2 * h - 1).abs().pow(BETA)).sum()


CANDIDATES: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "repq_fx": lambda w, v, s: soft_round(w, v, s, torch.zeros_like(s), -8, 7, 0, BETA),
    "repq_fx_reference": lambda w, v, s: soft_round_reference(
        w, v, s, torch.zeros_like(s), -8, 7, 0, BETA
    ),
    "torch": in_torch,
}


@pytest.mark.benchmark(group="soft_round")
@pytest.mark.parametrize("name", CANDIDATES)
def test_soft_round(benchmark: BenchmarkFixture, name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, logits = torch.randn(2, 512, 512, 3, 3, generator=generator).unbind()
    benchmark(CANDIDATES[name], weight, logits, weight.abs().amax((1, 2, 3)) / 7)
