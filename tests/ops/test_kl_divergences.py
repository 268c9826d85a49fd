"""KL divergences against a loop that follows the descriptions word for word."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repq_fx.ops import kl_divergences, kl_divergences_reference

op = torch.ops.repq_fx.kl_divergences.default
DIVERGENCES = ("reject", "mask", "smooth", "cfws")
EXPANSIONS = ("filled", "all")
REMAINDERS = ("spread", "last")


def level_of(k: int, kept: int, levels: int, remainder: str) -> int:
    if remainder == "spread":
        return k * levels // kept
    size = kept // levels
    return levels - 1 if size == 0 else min(k // size, levels - 1)


def smooth(values: list[float]) -> list[float] | None:
    empty = sum(value == 0 for value in values)
    if empty == len(values):
        return None
    taken = 1e-4 * empty / (len(values) - empty)
    smoothed = [1e-4 if value == 0 else value - taken for value in values]
    return None if taken >= 1 or min(smoothed) <= 0 else smoothed


def slow_divergence(counts, kept, levels, divergence, expand, remainder) -> float:
    q = [0.0] * kept
    for level in range(levels):
        bins = [k for k in range(kept) if level_of(k, kept, levels, remainder) == level]
        shared_by = bins if expand == "all" else [k for k in bins if counts[k] > 0]
        for k in shared_by:
            q[k] = sum(counts[b] for b in bins) / len(shared_by)
    p = [float(count) for count in counts[:kept]]
    p[-1] += sum(counts[kept:])
    if sum(q) == 0:
        return math.inf
    if divergence == "smooth":
        p, q = smooth(p), smooth(q)
        if p is None or q is None:
            return math.inf
    if divergence == "reject" and any(a > 0 and b == 0 for a, b in zip(p, q, strict=True)):
        return math.inf
    p_sum, q_sum = sum(p), sum(q)
    value = 0.0
    for a, b in zip(p, q, strict=True):
        if a != 0 and b != 0:
            if divergence == "cfws":
                value += a * math.log(p_sum * a) - a * math.log(q_sum * b)
            else:
                value += a * math.log((a / p_sum) / (b / q_sum))
    return value / p_sum


def adversarial_counts():
    """Runs of empty bins, spikes and tails of single values; the last bin is filled."""
    count = st.one_of(st.just(0), st.integers(0, 3), st.integers(0, 50), st.just(10**6))
    return st.lists(count, min_size=4, max_size=40).map(lambda counts: [*counts[:-1], 1])


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("expand", EXPANSIONS)
@pytest.mark.parametrize("remainder", REMAINDERS)
@given(adversarial_counts(), st.integers(1, 12))
@settings(deadline=None, max_examples=60)
def test_matches_the_loop(divergence, expand, remainder, counts, levels):
    kept = list(range(1, len(counts) + 1))  # Fewer bins than levels too.
    fast = kl_divergences(
        torch.tensor(counts, dtype=torch.float64), levels, torch.tensor(kept),
        divergence=divergence, expand=expand, remainder=remainder,
    )  # fmt: skip
    slow = [slow_divergence(counts, i, levels, divergence, expand, remainder) for i in kept]
    torch.testing.assert_close(fast, torch.tensor(slow, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@given(adversarial_counts(), st.integers(2, 8))
@settings(deadline=None, max_examples=60)
def test_the_cfws_formula_adds_a_penalty_on_the_clipped_share(counts, levels):
    # methods.md 2.5: D = KL_mask + 2 * (compared mass / total) * ln(total / kept mass).
    kept = torch.arange(1, len(counts) + 1)
    counts = torch.tensor(counts, dtype=torch.float64)
    mask = kl_divergences(counts, levels, kept, divergence="mask")
    cfws = kl_divergences(counts, levels, kept, divergence="cfws")
    kept_mass = counts.cumsum(0)
    compared = torch.where(counts > 0, counts.sum(), kept_mass)
    penalty = 2 * compared / counts.sum() * (counts.sum() / kept_mass).log()
    usable = kept_mass > 0
    torch.testing.assert_close(cfws[usable], (mask + penalty)[usable], rtol=1e-9, atol=1e-9)


def test_keeping_everything_on_enough_levels_is_free():
    counts = torch.tensor([3.0, 0.0, 7.0, 1.0], dtype=torch.float64)
    for divergence in DIVERGENCES:
        kept = torch.tensor([4])
        assert abs(kl_divergences(counts, 4, kept, divergence=divergence).item()) < 1e-12


def bell(bins: int, sparse: bool) -> torch.Tensor:
    counts = (1e6 * torch.exp(-(torch.linspace(0, 5, bins) ** 2) / 2)).floor().double()
    if sparse:
        counts[bins // 4 :] = 0
        counts[::37] += 1
    counts[-1] = 1
    return counts


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("expand", EXPANSIONS)
@pytest.mark.parametrize("remainder", REMAINDERS)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("levels", [3, 128, 256, 5000])
def test_kernel_matches_reference_and_chooses_alike(divergence, expand, remainder, sparse, levels):
    # 128 levels are looked up in a table of terms, 3 and 5000 are not.
    counts, kept = bell(1500, sparse), torch.arange(1, 1501, 1 if levels == 128 else 7)
    options = (levels, divergence, expand, remainder)
    fast, expected = op(counts, kept, *options), kl_divergences_reference(counts, kept, *options)
    # Logarithms of counts up to 1e6 cancel.
    torch.testing.assert_close(fast, expected, rtol=1e-12, atol=1e-12)
    smallest = expected.min()
    assert expected[fast.argmin()] <= smallest + 1e-12


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("expand", EXPANSIONS)
@given(adversarial_counts(), st.integers(1, 70), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=20)
def test_any_candidates_in_any_order(divergence, expand, counts, levels, random):
    counts = torch.tensor(counts, dtype=torch.float64)
    kept = torch.tensor([random.randint(1, len(counts)) for _ in range(random.choice([0, 3, 300]))],
                        dtype=torch.int64)  # fmt: skip
    for remainder in REMAINDERS:
        options = (levels, divergence, expand, remainder)
        fast, expected = (
            op(counts, kept, *options),
            kl_divergences_reference(counts, kept, *options),
        )
        torch.testing.assert_close(fast, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_threads_and_layout_do_not_change_divergences(divergence):
    counts, kept, threads = (
        bell(1500, sparse=False),
        torch.arange(60, 1500),
        torch.get_num_threads(),
    )
    expected = kl_divergences(counts, 64, kept, divergence=divergence)
    apart = torch.stack((counts, -counts), dim=1)[:, 0], torch.stack((kept, kept), dim=1)[:, 0]
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            divergences = kl_divergences(apart[0], 64, apart[1], divergence=divergence)
            assert torch.equal(divergences, expected)
    finally:
        torch.set_num_threads(threads)


def test_integer_counts():
    counts, kept = torch.tensor([5, 3, 0, 1]), torch.tensor([2, 4])
    assert torch.equal(kl_divergences(counts, 2, kept), kl_divergences(counts.double(), 2, kept))


COUNTS, KEPT = torch.ones(4).double(), torch.tensor([2, 4])


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_opcheck(divergence):
    torch.library.opcheck(op, (COUNTS, KEPT, 2, divergence, "filled", "spread"))
