"""Errors of 2048 ranges on a histogram of 2048 bins: ours against our float64 torch code."""

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from repq_fx.ops import range_losses, range_losses_reference

BINS = 2048
POWERS = {"mae": 1.0, "mse": 2.0, "lp2.4": 2.4, "cosine": None}
FUNCTIONS = {"repq_fx": range_losses, "repq_fx_reference": range_losses_reference}
# One threshold at the end of each bin; and the zero points and scales of a search over both ends.
SEARCHES = {
    "thresholds": (torch.arange(BINS, 0, -1).double() / 255, torch.zeros(BINS, 1).long()),
    "both_ends": (
        16.0 * 0.94 ** torch.arange(126, dtype=torch.float64),
        torch.arange(256).expand(126, 256),
    ),
}


@pytest.fixture(scope="module")
def counts(activations: Tensor) -> Tensor:
    positive = activations[activations > 0]
    side = torch.histc(positive, BINS, 0.0, positive.max().item()).double()
    return torch.cat((side.flip(0), side))


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_range_losses(
    benchmark: BenchmarkFixture, counts: Tensor, power: str, search: str, name: str
) -> None:
    benchmark.group = f"range_losses_{search}_{power}"
    if search == "thresholds":
        counts = torch.cat((torch.zeros(BINS), counts[BINS:]))
    benchmark(FUNCTIONS[name], counts.double(), *SEARCHES[search], 0, 255, POWERS[power])
