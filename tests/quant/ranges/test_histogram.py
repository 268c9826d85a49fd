"""The collector: exact under growth, merging and any split into batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repq_fx.errors import CalibrationError
from repq_fx.quant import TensorHistogram
from repq_fx.quant.ranges.histogram import BINS_PER_SIDE

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
    assert left.zeros == right.zeros


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
    assert histogram.zeros == sum(value == 0.0 for value in values)


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


def test_float64_beyond_float32_is_refused_and_counts_nothing():
    histogram = collect(torch.tensor([1.0]))
    with pytest.raises(CalibrationError, match="infinite"):
        histogram.update(torch.tensor([1e300], dtype=torch.float64))
    assert_same(histogram, collect(torch.tensor([1.0])))


def test_refuses_integers():
    with pytest.raises(TypeError, match=r"floating-point, got torch\.int64"):
        TensorHistogram().update(torch.arange(3))


def test_counts_zeros_of_either_sign_and_no_denormals():
    histogram = collect(torch.tensor([0.0, -0.0, 1e-45, -1e-45, 3.0]), torch.tensor([-2.0, 0.0]))
    assert histogram.zeros == 3
    assert histogram.counts[BINS_PER_SIDE] == 4
    assert histogram.counts[BINS_PER_SIDE - 1] == 1


def test_counts_stay_exact_beyond_32_bits():
    histogram = collect(torch.tensor([0.0, 1.0, 1.0, -3.0]))
    doubled = collect(torch.tensor([0.0, 1.0, 1.0, -3.0]))
    for _ in range(18):  # The list of batch ranges doubles too.
        histogram.merge(doubled)
        doubled.merge(doubled)
    for _ in range(2):
        histogram.counts *= 2**18
        histogram.zeros *= 2**18
        histogram.merge(collect(torch.tensor([1.0])))
    total = 4 * 2**54 + 2**18 + 1
    assert histogram.counts.sum() == total
    assert histogram.zeros == 2**54
    assert histogram.magnitudes().sum() == total


def test_merging_with_itself_doubles():
    histogram = collect(torch.tensor([0.0, 1.0, -2.0]))
    histogram.merge(histogram)
    assert_same(histogram, collect(torch.tensor([0.0, 1.0, -2.0, 0.0, 1.0, -2.0])))


def test_merging_needs_equal_bins():
    with pytest.raises(ValueError, match="4096 and 8 bins"):
        TensorHistogram().merge(TensorHistogram(8))


def test_batch_ranges_are_kept_in_order():
    histogram = collect(torch.tensor([1.0, -2.0]), torch.empty(0), torch.tensor([0.5]))
    histogram.merge(collect(torch.tensor([-7.0, 3.0])))
    assert histogram.batch_ranges == [(-2.0, 1.0), (0.5, 0.5), (-7.0, 3.0)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([-3.0, 4.0], (-2.0, 2.0)), ([-1.0, 4.0], (-1.0, 2.0)), ([3.0, 4.0], (0.0, 2.0)),
     ([-4.0, -3.0], (-2.0, 0.0)), ([0.0], (0.0, 0.0))],
    ids=["two-sided", "short-side", "positive", "negative", "zero"],
)  # fmt: skip
def test_range_within_clips_what_was_seen_and_contains_zero(values, expected):
    assert collect(torch.tensor(values)).range_within(-2.0, 2.0) == expected


def test_counts_are_those_of_the_cpu(device):
    batches = [torch.randn(3, 50, device=device), 100 * torch.randn(7, device=device).relu()]
    histogram = collect(*batches)
    assert_same(histogram, collect(*(batch.cpu() for batch in batches)))
    assert histogram.counts.device.type == "cpu"
    histogram.update(batches[0])
    assert len(histogram.batch_ranges) == 3


@pytest.mark.cuda
def test_a_gpu_reports_non_finite_values_when_read():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    histogram = TensorHistogram()
    for value in (1.0, float("nan"), 2.0):
        histogram.update(torch.tensor([value], device="cuda"))
    with pytest.raises(CalibrationError, match="NaN or infinite"):
        _ = histogram.counts
    assert_same(histogram, collect(torch.tensor([1.0, 2.0])))


def test_inference_mode_and_gradients_do_not_matter():
    with torch.inference_mode():
        histogram = collect(torch.tensor([1.0]))
    histogram.update(torch.tensor([2.0], requires_grad=True))
    assert_same(histogram, collect(torch.tensor([1.0, 2.0])))
