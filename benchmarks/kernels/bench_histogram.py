"""Histogram of 2048 bins: ours against torch, numpy and torch's calibration observer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.ao.quantization import HistogramObserver

from repq_fx.ops import histogram, histogram_reference

BINS, LO, HI = 2048, 0.0, 8.0

CANDIDATES: dict[str, Callable[[Tensor], Any]] = {
    "repq_fx": lambda x: histogram(x, BINS, LO, HI),
    "repq_fx_reference": lambda x: histogram_reference(x, BINS, LO, HI),
    "torch_histc": lambda x: torch.histc(x, BINS, LO, HI),
    "numpy_histogram": lambda x: np.histogram(x.numpy(), BINS, (LO, HI)),
    # Not a histogram: one pass over the same memory, as a bound.
    "torch_aminmax": torch.aminmax,
}


@pytest.mark.benchmark(group="histogram")
@pytest.mark.parametrize("name", CANDIDATES)
def test_histogram(benchmark: BenchmarkFixture, activations: Tensor, name: str) -> None:
    benchmark(CANDIDATES[name], activations)


@pytest.mark.benchmark(group="histogram")
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_torch_observer(benchmark: BenchmarkFixture, activations: Tensor) -> None:
    observer = HistogramObserver(bins=BINS)
    observer(activations)  # The first batch sets the range; all others merge into it.
    benchmark(observer, activations)
