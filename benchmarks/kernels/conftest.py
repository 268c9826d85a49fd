"""The input and the settings that all kernel benchmarks share."""

from collections.abc import Iterator

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
