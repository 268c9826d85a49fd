"""The best of 80 scales for each row of a weight: ours against a loop over torch's operator."""

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from repq_fx.ops import search_scale, search_scale_reference

QUANT_MAX = 127


def torch_loop(rows: Tensor, widest: Tensor, power: float) -> Tensor:
    best, best_loss = widest, torch.full_like(widest, torch.inf)
    zero_points = torch.zeros(len(rows), dtype=torch.int32)
    for step in range(80):
        scale = widest * (1 - 0.01 * step)
        rounded = torch.fake_quantize_per_channel_affine(
            rows, scale, zero_points, 0, -QUANT_MAX, QUANT_MAX
        )
        loss = (rounded - rows).abs_().pow_(power).sum(1)
        best = torch.where(loss < best_loss, scale, best)
        best_loss = torch.minimum(loss, best_loss)
    return best


CANDIDATES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "repq_fx": lambda rows, widest, power: search_scale(rows, widest, -QUANT_MAX, QUANT_MAX, power),
    "repq_fx_reference": lambda rows, widest, power: search_scale_reference(
        rows, widest, -QUANT_MAX, QUANT_MAX, power
    ),
    "torch_loop": torch_loop,
}


@pytest.fixture(scope="module")
def rows() -> Tensor:
    """The weight of a 3x3 convolution of 192 channels, as in RepVGG-A0."""
    return torch.randn(192, 192 * 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.benchmark(group="search_scale")
@pytest.mark.parametrize("power", [1.0, 2.0, 2.4])
@pytest.mark.parametrize("name", CANDIDATES)
def test_search_scale(benchmark: BenchmarkFixture, rows: Tensor, name: str, power: float) -> None:
    benchmark(CANDIDATES[name], rows, rows.abs().amax(1) / QUANT_MAX, power)
