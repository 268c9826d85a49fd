"""Latency of several models on the same input, measured in turns."""

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LatencyStatistics:
    """Quartiles of one model's forward time, in milliseconds."""

    lower_quartile: float
    median: float
    upper_quartile: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ms ({self.lower_quartile:.2f}-{self.upper_quartile:.2f})"


def measure_latency(
    models: Mapping[str, nn.Module],
    inputs: tuple[Tensor, ...],
    *,
    repeats: int = 30,
    threads: int = 1,
) -> dict[str, LatencyStatistics]:
    """Time one forward pass of every model, `repeats` rounds, one model after the other.

    Taking turns lets all models share the machine's noise; two untimed rounds come first.

    Raises:
        ValueError: `repeats` is below 2 or `threads` below 1.
    """
    if threads < 1:
        raise ValueError(f"measure_latency: threads must be at least 1, got {threads}.")
    if repeats < 2:
        raise ValueError(f"measure_latency: repeats must be at least 2, got {repeats}.")
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode(), _thread_count(threads):
        for round_index in range(-2, repeats):
            for name, model in models.items():
                start = time.perf_counter()
                model(*inputs)
                if round_index >= 0:
                    times[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: LatencyStatistics(*statistics.quantiles(series, n=4))
        for name, series in times.items()
    }


@contextmanager
def _thread_count(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
