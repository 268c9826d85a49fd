"""Latency of several models on the same input, measured in turns."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

# An INT8 net of 1.7 ms took 2.2 ms in its first call after other nets, 1.9 in its second, 1.75 in
# its fourth (OpenVINO, two threads).
_WARM_UP_SECONDS = 0.01
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class LatencyStatistics:
    """Quartiles of one model's forward time, in milliseconds."""

    lower_quartile: float
    median: float
    upper_quartile: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ms ({self.lower_quartile:.2f}-{self.upper_quartile:.2f})"


def measure_latency(
    models: Mapping[str, Callable[..., object]],
    inputs: tuple[Tensor, ...] = (),
    *,
    repeats: int = 30,
    threads: int = 1,
    progress: bool = False,
) -> dict[str, LatencyStatistics]:
    """Time one call of every model, `repeats` rounds, one model after the other.

    Taking turns lets all models share the machine's noise. In its turn each is called untimed for
    10 ms, at least once, and then timed: otherwise its weights would be out of the caches and the
    threads of the one before it still spinning. Two untimed rounds come first.

    Args:
        models: What to call, by name: modules, or any functions of `inputs`. Other runtimes than
            torch take the number of their threads when they are built.
        inputs: The arguments of every call.
        repeats: Timed calls of each model, at least 2.
        threads: Threads of torch.
        progress: Show a progress bar.

    Raises:
        ValueError: `repeats` is below 2 or `threads` below 1.
    """
    if repeats < 2:
        raise ValueError(f"measure_latency: repeats must be at least 2, got {repeats}.")
    times: dict[str, list[float]] = {name: [] for name in models}
    rounds = tqdm(
        range(-2, repeats), desc="latency", unit="round", disable=not progress, leave=False
    )
    with torch.inference_mode(), thread_count(threads):
        for round_index in rounds:
            for name, model in models.items():
                warm_until = time.perf_counter() + _WARM_UP_SECONDS
                model(*inputs)
                while time.perf_counter() < warm_until:
                    model(*inputs)
                start = time.perf_counter()
                model(*inputs)
                if round_index >= 0:
                    times[name].append(1e3 * (time.perf_counter() - start))
    # Between the least and the largest time; quartiles of two could be negative otherwise.
    return {
        name: LatencyStatistics(*statistics.quantiles(series, n=4, method="inclusive"))
        for name, series in times.items()
    }


def in_channels_last(model: Module) -> Module:
    """`model` with its weights in the order that torch's convolutions prefer, in place.

    `nn.Module.to` refuses a model that has a tensor of five axes, as the windows of Swin do.
    """
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return model


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Give torch `threads` threads within a ``with`` statement.

    Raises:
        ValueError: `threads` is below 1.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}.")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
