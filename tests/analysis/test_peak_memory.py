"""The peak of memory counts what is held in between."""

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from repq_fx.analysis import peak_memory
from repq_fx.analysis.peak_memory import PeakMemory

SIZE = 64 * 2**20


def hold_and_free(size):
    """Not by the allocator, which may have as much left of other tests."""
    with mmap.mmap(-1, size) as pages:
        np.frombuffer(pages, np.uint8).fill(1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says")
def test_what_was_freed_in_between_counts_and_what_was_freed_before_does_not():
    hold_and_free(3 * SIZE)
    memory = PeakMemory()
    hold_and_free(SIZE)
    assert 0.9 * SIZE < memory.bytes_above_start() < 2 * SIZE


@pytest.mark.parametrize("name", ["_STATUS", "_REFERENCES"])
def test_where_the_kernel_does_not_say_it_is_unknown(name, monkeypatch):
    monkeypatch.setattr(peak_memory, name, Path("/nowhere/at/all"))
    assert PeakMemory().bytes_above_start() is None
