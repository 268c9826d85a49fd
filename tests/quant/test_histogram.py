"""The collector: exact under growth, merging and any split into batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repq_fx.errors import CalibrationError
from repq_fx.quant import TensorHistogram
from repq_fx.quant.histogram import BINS_PER_SIDE

FINITE = st.floats(-(2.0**100), 2.0**100, width=32)


def collect(*batches: torch.Tensor) -> TensorHistogram:
    histogram = TensorHistogram()
    for batch in batches:
        histogram.update(batch)
    return histogram


def assert_same(left: TensorHistogram, right: TensorHistogram) -> None:
    assert left.width == right.width
    assert (left.lowest, left.highest) == (right.lowest, right.highest)
    assert torch.equal(left.counts, right.counts)


@given(st.lists(FINITE, min_size=1, max_size=40), st.integers(0, 40))
@settings(deadline=None, max_examples=200)
def test_batches_merges_and_one_pass_agree(values, cut):
    tensor = torch.tensor(values, dtype=torch.float32)
    whole = collect(tensor)
    assert_same(whole, collect(tensor[:cut], tensor[cut:]))
    merged = collect(tensor[:cut])
    merged.merge(collect(tensor[cut:]))
    assert_same(whole, merged)


@given(st.lists(FINITE, min_size=1, max_size=40))
@settings(deadline=None, max_examples=200)
def test_every_value_is_counted_in_its_own_bin(values):
    histogram = collect(torch.tensor(values, dtype=torch.float32))
    exact = torch.tensor(values, dtype=torch.float32).double() / histogram.width
    expected = torch.zeros_like(histogram.counts)
    for index in exact.floor().long() + BINS_PER_SIDE:
        expected[index] += 1
    assert torch.equal(histogram.counts, expected)


def test_width_uses_at_least_half_the_bins():
    for magnitude in (1e-30, 0.7, 1.0, 63.99, 64.0, 1e30):
        histogram = collect(torch.tensor([magnitude]))
        used = histogram.largest_magnitude / histogram.width
        assert BINS_PER_SIDE / 2 <= used < BINS_PER_SIDE


def test_huge_growth_keeps_every_count():
    histogram = collect(torch.rand(100) * 1e-30, torch.rand(50) * 1e30, torch.zeros(7))
    assert histogram.counts.sum() == 157
    assert histogram.counts[BINS_PER_SIDE] >= 107


def test_empty_batch_changes_nothing():
    histogram = collect(torch.tensor([1.0]))
    histogram.update(torch.empty(0))
    assert histogram.counts.sum() == 1


def test_all_zero_tensor_has_a_range():
    histogram = collect(torch.zeros(5))
    assert (histogram.lowest, histogram.highest, histogram.largest_magnitude) == (0.0, 0.0, 0.0)
    assert not histogram.is_empty


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_other_float_dtypes(dtype):
    values = torch.randn(500).to(dtype)
    assert_same(collect(values), collect(values.float()))


def test_non_contiguous_input():
    values = torch.randn(8, 3, 5, 7)
    assert_same(collect(values), collect(values.to(memory_format=torch.channels_last)))
    assert_same(collect(values[:, 1:, ::2]), collect(values[:, 1:, ::2].contiguous()))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_refuses_non_finite_values_and_counts_nothing(bad):
    histogram = collect(torch.tensor([1.0]))
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        histogram.update(torch.tensor([2.0, bad]))
    assert histogram.counts.sum() == 1


def test_occupied_of_an_empty_histogram_is_refused():
    with pytest.raises(ValueError, match="empty"):
        TensorHistogram().occupied()
