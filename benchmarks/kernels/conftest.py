"""The input and the settings that all kernel benchmarks share."""

from collections.abc import Iterator
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: what a kernel itself costs, on any machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def activations() -> Tensor:
    """A batch of activations after a ReLU: 6.4 million float32 values, half of them zero."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(32, 64, 3125, generator=generator).relu_()


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Keep of the report what is compared: medians and spreads in ms, and where they come from."""
    times = [
        {
            "group": each["group"],
            "name": each["name"],
            "median_ms": round(each["stats"]["median"] * 1e3, 4),
            "quartiles_ms": [round(each["stats"][q] * 1e3, 4) for q in ("q1", "q3")],
            "rounds": each["stats"]["rounds"],
        }
        for each in output_json["benchmarks"]
    ]
    machine = {
        "cpu": output_json["machine_info"]["cpu"]["brand_raw"],
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "threads": 1,
    }
    output_json.clear()
    output_json.update(machine=machine, times=times)
