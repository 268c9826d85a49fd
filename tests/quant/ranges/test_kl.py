"""The KL rule: its options, the published combinations and their published behaviour."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repq_fx.quant import KL, TensorHistogram
from repq_fx.quant.grid import Grid
from tests.ops.test_kl_divergences import slow_divergence

UNSIGNED = Grid.unsigned(8)
PRESETS = {
    "default": KL(),
    "tensorrt": KL.tensorrt(),
    "nvidia": KL.nvidia(),
    "intel": KL.intel(),
    "smoothed": KL.smoothed(),
    "cfws": KL.cfws(),
}


def histogram_of(values: torch.Tensor, bins: int = 4096) -> TensorHistogram:
    histogram = TensorHistogram(bins)
    histogram.update(values)
    return histogram


def threshold_of(rule: KL, histogram: TensorHistogram, grid: Grid = UNSIGNED) -> float:
    lowest, highest = rule.clip_range(histogram, grid, symmetric=False)
    return max(-lowest, highest)


def slow_thresholds(rule: KL, values: list[float], bins: int, grid: Grid) -> set[float]:
    """Every threshold that is right: rounding may break ties of equal divergences either way."""
    largest = max(abs(value) for value in values)
    width = 2.0**-126
    while bins * width <= largest:
        width *= 2
    two_sided = min(values) < 0 < max(values)

    def counts_at(width: float) -> list[int]:
        counts = [0] * bins
        for value in values:
            if not (rule.zero_bin == "drop" and value == 0):
                # Negative bins are closed at the end away from zero.
                exact = abs(value) / width
                counts[math.ceil(exact) - 1 if value < 0 else math.floor(exact)] += 1
        return counts

    counts = counts_at(width)
    occupied = max((k + 1 for k in range(bins) if counts[k]), default=1)
    while rule.bins is not None and occupied > rule.bins:
        counts = [a + b for a, b in zip(counts[::2], counts[1::2], strict=True)]
        width, occupied = 2 * width, max(k + 1 for k in range(len(counts)) if counts[k])
    if rule.zero_bin == "copy":
        counts[0] = counts[1]
    if sum(counts) == 0:
        return {largest}
    while counts[-1] == 0:
        counts.pop()
    integers = grid.quant_max - grid.quant_min + 1
    half = (integers + 1) // 2
    levels = {"grid": half if two_sided else integers, "half": half}.get(rule.levels, rule.levels)
    first = levels if rule.first is None else rule.first
    if isinstance(first, float):
        first = max(1, int(first * (len(counts) - 1)))
    divergences = {
        i: slow_divergence(counts, i, levels, rule.divergence, rule.expand, rule.remainder)
        for i in range(first, len(counts) + 1, rule.stride)
    }
    smallest = min(divergences.values(), default=math.inf)
    if smallest == math.inf:
        return {largest}
    offset = {"lower": 0.0, "middle": 0.5, "upper": 1.0}[rule.edge]
    return {
        min((i + offset) * width, largest)
        for i, divergence in divergences.items()
        if divergence <= smallest + 1e-9
    }


VALUE = st.one_of(
    st.just(0.0), st.floats(-1, 1, width=32), st.floats(0, 60, width=32), st.just(60.0)
)
RULES = st.builds(
    KL,
    divergence=st.sampled_from(["reject", "mask", "smooth", "cfws"]),
    zero_bin=st.sampled_from(["copy", "keep", "drop"]),
    levels=st.one_of(st.sampled_from(["grid", "half"]), st.integers(1, 9)),
    first=st.one_of(st.none(), st.integers(1, 20), st.floats(0.1, 0.9)),
    stride=st.integers(1, 3),
    tie=st.sampled_from(["last", "first"]),
    edge=st.sampled_from(["lower", "middle", "upper"]),
    bins=st.sampled_from([None, 2, 5, 16]),
    expand=st.sampled_from(["filled", "all"]),
    remainder=st.sampled_from(["spread", "last"]),
)


@given(RULES, st.lists(VALUE, min_size=1, max_size=40), st.integers(2, 3))
@settings(deadline=None, max_examples=300)
def test_any_combination_matches_the_loop(rule, values, bits):
    grid = Grid.unsigned(bits)
    values = torch.tensor(values).tolist()
    threshold = threshold_of(rule, histogram_of(torch.tensor(values), 32), grid)
    assert threshold in slow_thresholds(rule, values, 32, grid)


@pytest.mark.parametrize("rule", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("kind", ["relu", "signed", "sparse"])
def test_presets_match_the_loop_on_two_bits(rule, kind):
    values = torch.randn(3000, generator=torch.Generator().manual_seed(0))
    values = {"relu": values.relu(), "signed": values, "sparse": values.abs().pow(6)}[kind]
    grid = Grid.unsigned(2)
    rule = KL(**{**vars(rule), "levels": 4} if rule.levels == 255 else vars(rule))
    histogram = histogram_of(values, 128)
    assert threshold_of(rule, histogram, grid) in slow_thresholds(rule, values.tolist(), 128, grid)


def relu_with_outliers() -> TensorHistogram:
    """The setting of methods.md 2.5: half-normal behind a ReLU, and 300 outliers up to 60."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(500_000, generator=generator).relu()
    values[:300] = 60 * torch.rand(300, generator=generator)
    values[0] = 60.0
    return histogram_of(values)


@pytest.mark.parametrize(
    ("rule", "lowest", "highest"),
    [
        # Published with bins of 60 / 2048; ours are 1 / 32, so 128 and 256 bins are 4 and 8.
        (KL("reject", "keep", 128, bins=2048), 4.0, 4.0),  # 3.75
        (KL("mask", "keep", 128, bins=2048), 4.0, 4.0),  # 3.75
        (KL("cfws", "keep", 128, bins=2048), 4.0, 4.0),  # 3.75
        (KL("reject", "copy", 128, bins=2048), 4.05, 4.4),  # 4.04
        (KL("reject", "keep", 256, bins=2048), 12.0, 16.0),  # 14.8
        (KL("mask", "keep", 256, bins=2048), 8.0, 8.0),  # 7.5
        (KL("cfws", "keep", 256, bins=2048), 8.0, 8.0),  # 7.5
        (KL("reject", "copy", 256, bins=2048), 50.0, 60.0),  # 52
    ],
    ids=lambda value: (
        f"{value.divergence}-{value.zero_bin}-{value.levels}" if isinstance(value, KL) else None
    ),
)
def test_options_move_the_threshold_as_published(rule, lowest, highest):
    assert lowest <= threshold_of(rule, relu_with_outliers()) <= highest


def test_intel_barely_clips():
    histogram = relu_with_outliers()
    assert threshold_of(KL.intel(), histogram) >= 0.69 * histogram.largest_magnitude
    assert threshold_of(KL.tensorrt(), histogram) < 5.0


@pytest.mark.parametrize("rule", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize(
    "values",
    [[0.0], [2.0], [-2.0], [0.0, 1e30], [-1.0, 1.0], [1e-40, 0.0], [1e30, 1e-30], [-3e38, 3e38]],
    ids=str,
)
def test_degenerate_tensors_keep_their_range(rule, values):
    histogram = histogram_of(torch.tensor(values))
    ends = rule.clip_range(histogram, UNSIGNED, symmetric=False)
    assert ends == histogram.range_within(-math.inf, math.inf)


@pytest.mark.parametrize("rule", PRESETS.values(), ids=PRESETS)
def test_counts_beyond_32_bits_scale_out(rule):
    values = torch.randn(20_000, generator=torch.Generator().manual_seed(0)).relu()
    histogram = histogram_of(values)
    threshold = threshold_of(rule, histogram)
    histogram.counts *= 2**30
    histogram.zeros *= 2**30
    if rule.divergence == "smooth":  # 1e-4 beside larger counts is another distribution.
        assert 0.0 < threshold_of(rule, histogram) <= histogram.highest
    else:
        assert threshold_of(rule, histogram) == threshold


def test_dropping_zeros_is_forgetting_them():
    values = torch.randn(50_000, generator=torch.Generator().manual_seed(0)).relu()
    rule = KL(zero_bin="drop")
    without = threshold_of(KL(zero_bin="keep"), histogram_of(values[values > 0]))
    assert threshold_of(rule, histogram_of(values)) == without
    assert threshold_of(KL(zero_bin="keep"), histogram_of(values)) != without
    assert threshold_of(rule, histogram_of(torch.zeros(5))) == 0.0


def test_equal_minima_go_to_the_side_asked_for():
    # With a mask, every threshold short of the lonely last value costs exactly the same.
    values = torch.cat((torch.full((50,), 0.5), torch.tensor([30.0])))
    options = {"divergence": "mask", "zero_bin": "keep", "levels": 2}
    assert threshold_of(KL(**options, tie="first"), histogram_of(values, 32)) == 2.0
    assert threshold_of(KL(**options, tie="last"), histogram_of(values, 32)) == 30.0


def test_two_sided_data_has_half_of_the_levels():
    one_sided = relu_with_outliers()
    two_sided = relu_with_outliers()
    two_sided.update(torch.tensor([-1e-3]))
    rules = [KL("mask", "keep", levels, bins=2048) for levels in ("grid", "half", 128, 256)]
    assert [threshold_of(rule, one_sided) for rule in rules] == [8.0, 4.0, 4.0, 8.0]
    assert [threshold_of(rule, two_sided) for rule in rules] == [4.0, 4.0, 4.0, 8.0]


@pytest.mark.parametrize("last", range(16, 32))
def test_bins_merge_until_few_enough_hold_the_data(last):
    values = [k + 0.5 for k in range(last + 1) for _ in range(1 if k > 5 else 40 - 6 * k)]
    rule = KL("mask", "keep", levels=2, bins=5)
    threshold = threshold_of(rule, histogram_of(torch.tensor(values), 32))
    assert threshold in slow_thresholds(rule, values, 32, UNSIGNED)
    # With widths of 4 or 8, five bins hold all.
    assert threshold % (4 if last < 20 else 8) == 0 or threshold == values[-1]


def test_edge_is_a_point_of_the_first_bin_left_out():
    histogram = relu_with_outliers()
    thresholds = [
        threshold_of(KL("mask", "keep", 128, edge=edge, bins=2048), histogram)
        for edge in ("lower", "middle", "upper")
    ]
    assert thresholds == [4.0, 4.0 + 1 / 64, 4.0 + 1 / 32]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"divergence": "exact"}, r"divergence must be one of \('reject', .*\), got 'exact'"),
        ({"zero_bin": True}, "zero_bin must be one of .* got True"),
        ({"tie": "any"}, "tie must be one of .* got 'any'"),
        ({"edge": "centre"}, "edge must be one of .* got 'centre'"),
        ({"expand": "none"}, "expand must be one of .* got 'none'"),
        ({"remainder": "first"}, "remainder must be one of .* got 'first'"),
        ({"levels": 0}, "levels must be 'grid', 'half' or a positive integer, got 0"),
        ({"levels": 2.5}, "levels must be .* got 2.5"),
        ({"first": 0}, "first must be None, a positive integer or a share .* got 0"),
        ({"first": 1.5}, "first must be .* got 1.5"),
        ({"stride": -1}, "stride must be a positive integer, got -1"),
        ({"bins": 1}, "bins must be None or an integer above 1, got 1"),
    ],
    ids=lambda value: str(*value) if isinstance(value, dict) else None,
)
def test_wrong_options_are_named(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        KL(**options)


def test_repr_names_what_differs_from_the_default():
    assert repr(KL()) == "KL()"
    assert repr(KL.nvidia()) == "KL(first=128, bins=2048)"
    assert all(eval(repr(rule)) == rule for rule in PRESETS.values())
