"""The peak of memory counts what is held in between."""

import sys
from pathlib import Path

import numpy as np
import pytest

from repq_fx.analysis import peak_memory
from repq_fx.analysis.peak_memory import PeakMemory

SIZE = 64 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says")
def test_what_was_freed_in_between_counts_and_what_was_freed_before_does_not():
    np.ones(3 * SIZE, dtype=np.uint8)
    memory = PeakMemory()
    np.ones(SIZE, dtype=np.uint8)
    assert 0.9 * SIZE < memory.bytes_above_start() < 2 * SIZE


@pytest.mark.parametrize("name", ["_STATUS", "_REFERENCES"])
def test_where_the_kernel_does_not_say_it_is_unknown(name, monkeypatch):
    monkeypatch.setattr(peak_memory, name, Path("/nowhere/at/all"))
    assert PeakMemory().bytes_above_start() is None
