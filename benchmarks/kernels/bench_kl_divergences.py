"""KL over all thresholds of 2048 bins: ours against a loop over thresholds in numpy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from repq_fx.ops import kl_divergences, kl_divergences_reference

BINS, LEVELS = 2048, 128
KEPT = torch.arange(LEVELS, BINS + 1)


def numpy_loop(counts: Tensor) -> list[float]:
    """One threshold at a time, each with a vectorized body."""
    bins, divergences = counts.numpy(), []
    for kept in KEPT.tolist():
        inside = bins[:kept]
        level = np.arange(kept) * LEVELS // kept
        filled = inside > 0
        mass = np.bincount(level, inside, LEVELS)
        mean = mass / np.maximum(np.bincount(level, filled, LEVELS), 1)
        p, q = inside.copy(), np.where(filled, mean[level], 0.0)
        p[-1] += bins[kept:].sum()
        both = (p > 0) & (q > 0)
        p, q = p / p.sum(), q / q.sum()
        divergences.append(np.sum(p[both] * np.log(p[both] / q[both])))
    return divergences


CANDIDATES: dict[str, Callable[[Tensor], Any]] = {
    "repq_fx": lambda counts: kl_divergences(counts, LEVELS, KEPT, divergence="mask"),
    "repq_fx_256_levels": lambda counts: kl_divergences(counts, 256, KEPT, divergence="mask"),
    "repq_fx_smoothed": lambda counts: kl_divergences(counts, LEVELS, KEPT, divergence="smooth"),
    "repq_fx_reference": lambda counts: kl_divergences_reference(
        counts, KEPT, LEVELS, "mask", "filled", "spread"
    ),
    "numpy_loop": numpy_loop,
}


@pytest.mark.benchmark(group="kl_divergences")
@pytest.mark.parametrize("name", CANDIDATES)
def test_kl_divergences(benchmark: BenchmarkFixture, activations: Tensor, name: str) -> None:
    positive = activations[activations > 0]
    counts = torch.histc(positive, BINS, 0.0, positive.max().item()).double()
    benchmark(CANDIDATES[name], counts)
