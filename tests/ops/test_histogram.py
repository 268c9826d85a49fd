import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from repq_fx.ops import histogram, histogram_reference

op = torch.ops.repq_fx.histogram.default
GRIDS = {
    "power_of_two": (64, -4.0, 4.0),
    "arbitrary": (100, -0.37, 5.1),
    "single_bin": (1, -1.0, 1.0),
    "more_bins_than_values": (20_000, -3.0, 3.0),
    "away_from_zero": (50, 1.5, 2.5),
}
# Any float32, values around the grids below, and values next to their edges.
FLOATS = st.lists(
    st.floats(width=32, allow_nan=False)
    | st.floats(-100, 100, width=32)
    | st.integers(-100, 100).map(lambda edge: float(np.nextafter(np.float32(edge), np.float32(0)))),
    max_size=200,
)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_matches_reference(values: Tensor, grid: tuple[int, float, float]):
    counts = histogram(values, *grid)
    assert counts.dtype == torch.int64
    assert counts.device == values.device
    assert torch.equal(counts, histogram_reference(values, *grid))
    assert counts.sum() == values.numel()


def test_matches_numpy_on_exact_bins(device: torch.device):
    values = torch.rand(100_000, device=device) * 8 - 4
    expected, _ = np.histogram(values.cpu().numpy(), bins=64, range=(-4, 4))
    assert histogram(values, 64, -4.0, 4.0).tolist() == expected.tolist()


def test_outside_values_count_in_the_end_bins_and_nan_nowhere(device: torch.device):
    values = torch.tensor([-math.inf, -9.0, 0.0, 1.0, 9.0, math.inf, math.nan], device=device)
    assert histogram(values, 2, -1.0, 1.0).tolist() == [2, 4]


def test_nan_everywhere(device: torch.device):
    values = torch.full((100_003,), math.nan, device=device)
    assert histogram(values, 8, 0.0, 1.0).tolist() == [0] * 8


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_other_floats_are_rounded_to_float32(dtype: torch.dtype):
    values = torch.randn(1000).to(dtype)
    assert torch.equal(histogram(values, 64, -4.0, 4.0), histogram(values.float(), 64, -4.0, 4.0))


@given(FLOATS, st.integers(-20, 20))
@example([-1e-45, 1e-45, -0.0, 1.2e-38, -1.2e-38], 20)
def test_doubling_the_width_merges_pairs(values: list[float], exponent: int):
    tensor, width = torch.tensor(values, dtype=torch.float32), 2.0**exponent
    for offset in (-32, -6, 0, 10):
        lo, hi = offset * width, (offset + 64) * width
        pairs = histogram(tensor, 64, lo, hi).view(32, 2).sum(1)
        assert torch.equal(pairs, histogram(tensor, 32, lo, hi))


@given(FLOATS, st.integers(1, 300), st.floats(-100, 100), st.floats(1e-3, 100))
def test_kernel_counts_every_value_as_the_reference(
    values: list[float], bins: int, lo: float, length: float
):
    tensor = torch.tensor(values, dtype=torch.float32)
    counts = histogram(tensor, bins, lo, lo + length)
    assert counts.sum() == len(values)
    assert torch.equal(counts, histogram_reference(tensor, bins, lo, lo + length))


def test_threads_do_not_change_counts():
    values, threads = torch.randn(2**20 + 3).relu(), torch.get_num_threads()
    expected = histogram_reference(values, 2048, 0.0, 8.0)
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert torch.equal(histogram(values, 2048, 0.0, 8.0), expected)
    finally:
        torch.set_num_threads(threads)


def test_wrapper_rejects_integers():
    with pytest.raises(TypeError, match="expected float32 input, got int32"):
        histogram(torch.zeros(3, dtype=torch.int32), 4, 0.0, 1.0)


def test_opcheck(device: torch.device):
    torch.library.opcheck(op, (torch.randn(4, 5, device=device), 16, -2.0, 2.0))
