"""One histogram per channel against one `TensorHistogram` for each channel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repq_fx.errors import CalibrationError
from repq_fx.quant import (
    KL,
    MAE,
    ChannelHistograms,
    Cosine,
    MinMax,
    MovingAverageMinMax,
    Percentile,
    TensorHistogram,
)
from repq_fx.quant.channel_histograms import CHANNEL_BINS_PER_SIDE
from repq_fx.quant.grid import Grid
from repq_fx.quant.ranges.rules import choose_parameters

CHANNEL = st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=12, max_size=12)


def collect(*batches: torch.Tensor, channels: int = 3, axis: int = 1) -> ChannelHistograms:
    histograms = ChannelHistograms(channels, axis)
    for batch in batches:
        histograms.update(batch)
    return histograms


def assert_rows_match(histograms: ChannelHistograms, batches: list[torch.Tensor]) -> None:
    """Compare each row with the histogram of its channel; the channels are axis 1 of `batches`."""
    for channel in range(len(histograms)):
        expected = TensorHistogram(CHANNEL_BINS_PER_SIDE)
        for batch in batches:
            expected.update(batch[:, channel])
        row = histograms.row(channel)
        assert vars(row).keys() == vars(expected).keys()
        assert torch.equal(row.counts, expected.counts)
        for name in ("zeros", "exponent", "lowest", "highest", "batch_ranges"):
            assert getattr(row, name) == getattr(expected, name), name


@given(st.lists(CHANNEL, min_size=3, max_size=3), st.integers(0, 12))
@settings(deadline=None, max_examples=100)
def test_rows_are_the_histograms_of_the_channels(channels, cut):
    values = torch.tensor(channels, dtype=torch.float32).T  # [12, 3]
    batches = [values[:cut], values[cut:]]
    assert_rows_match(collect(*batches), batches)
    merged = collect(values[:cut])
    merged.merge(collect(values[cut:]))
    assert_rows_match(merged, batches)


def test_small_channels_are_resolved_as_finely_as_large_ones():
    values = torch.randn(64, 3, 2) * torch.tensor([1e-20, 1.0, 1e20])[:, None]
    histograms = collect(values)
    assert_rows_match(histograms, [values])
    for channel in range(3):
        row = histograms.row(channel)
        assert row.largest_magnitude / row.width >= CHANNEL_BINS_PER_SIDE / 2


def test_axis_and_memory_format_do_not_matter():
    values = torch.randn(4, 3, 5, 7)
    for other in (
        collect(values.to(memory_format=torch.channels_last)),
        collect(values.movedim(1, 0), axis=0),
        collect(values.movedim(1, -1), axis=-1),
    ):
        assert_rows_match(other, [values])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_other_float_dtypes(dtype):
    values = torch.randn(10, 3).to(dtype)
    assert_rows_match(collect(values), [values])


def test_tiny_negative_values_do_not_become_zero():
    values = torch.tensor([[-1e-45, 1e30], [1e-45, -1e-45], [0.0, -0.0]]).T
    assert_rows_match(collect(values), [values])


def test_rows_are_copies():
    histograms = collect(torch.ones(2, 3))
    row = histograms.row(0)
    histograms.update(torch.ones(2, 3))
    assert row.counts.sum() == 2
    assert histograms.row(0).counts.sum() == 4


@pytest.mark.parametrize(
    "rule",
    [MinMax(), MovingAverageMinMax(), Percentile(), MAE(), Cosine(), KL(), KL.smoothed()],
    ids=lambda rule: type(rule).__name__,
)
def test_every_rule_reads_a_row(rule):
    values = torch.randn(4000, 3) * torch.tensor([1e-3, 1.0, 1e3])
    histograms = collect(values)
    scales = [
        choose_parameters(rule, histograms.row(channel), Grid.unsigned(8), symmetric=True).scale
        for channel in range(3)
    ]
    assert scales[1] / scales[0] == pytest.approx(1e3, rel=0.5)
    assert scales[2] / scales[1] == pytest.approx(1e3, rel=0.5)


def test_an_empty_batch_is_ignored():
    histograms = collect(torch.empty(0, 3))
    assert histograms.row(1).is_empty
    assert histograms.batch_ranges == []


def test_bad_input_is_refused_and_counts_nothing():
    histograms = ChannelHistograms(3)
    with pytest.raises(CalibrationError, match="channel 2 of a tensor holds NaN"):
        histograms.update(torch.tensor([[0.0, 1.0, float("nan")]]))
    with pytest.raises(ValueError, match=r"3 channels along axis 1, got shape \(3, 2\)"):
        histograms.update(torch.zeros(3, 2))
    with pytest.raises(TypeError, match=r"floating-point, got torch\.int64"):
        histograms.update(torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="3 and 2 channels"):
        histograms.merge(ChannelHistograms(2))
    assert histograms.counts.sum() == 0
