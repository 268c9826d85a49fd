"""KL divergences against a loop that follows the descriptions word for word."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repq_fx.quant.kl_divergence import kl_divergences

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
