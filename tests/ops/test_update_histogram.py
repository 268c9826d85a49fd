import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from repq_fx.ops import update_histogram, update_histogram_reference
from repq_fx.ops.update_histogram import SMALLEST_EXPONENT

op = torch.ops.repq_fx.update_histogram.default
BINS = 32
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ROUTES = {"kernel": (op, "cpu"), "reference": (update_histogram_reference, "cpu"),
          "fake": (op, "meta")}  # fmt: skip
# Any finite float32, values around some widths, and zeros.
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.floats(-9, 9, width=32)
LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(0, 2),
    "strided": lambda x: x[:, :, ::2, 1:],
    "expanded": lambda x: x[:, :, :1].expand(x.shape),
    "misaligned": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view_as(x),
}


def new_state(*rows: int, bins: int = BINS, device: object = "cpu") -> tuple[Tensor, ...]:
    """Counts, exponents and zeros before any data."""
    return (
        torch.zeros(*rows, bins, dtype=torch.int64, device=device),
        torch.full(rows, SMALLEST_EXPONENT, device=device),
        torch.zeros(rows, dtype=torch.int64, device=device),
    )


def assert_matches_reference(
    batches: list[Tensor], axis: int | None, *, relu: bool = False, bins: int = BINS
) -> tuple[Tensor, ...]:
    """Update a state with all batches; return it."""
    rows = () if axis is None else (batches[0].shape[axis],)
    state = new_state(*rows, bins=bins, device=batches[0].device)
    expected = new_state(*rows, bins=bins, device=batches[0].device)
    for batch in batches:
        bounds = update_histogram(*state, batch, axis, relu=relu)
        for ours, theirs in zip(
            (*bounds, *state),
            (*update_histogram_reference(*expected, batch, axis, relu), *expected),
            strict=True,
        ):
            assert ours.dtype == theirs.dtype
            assert ours.device == batch.device
            assert torch.equal(ours, theirs)
    return state


@pytest.mark.parametrize("relu", [False, True], ids=["signed", "relu"])
def test_matches_reference(values: Tensor, relu: bool):
    counts, _, zeros = assert_matches_reference([values, 3 * values], None, relu=relu, bins=256)
    if values.isfinite().all() or (relu and not values.isposinf().any()):
        assert counts.sum() == 2 * values.numel()
        shown = values.relu() if relu else values
        assert zeros == 2 * (shown == 0).sum()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 16, 37])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_channels_match_reference(
    layout: str, channels: int, dtype: torch.dtype, device: torch.device
):
    scale = torch.logspace(-3, 3, channels).view(-1, 1, 1)
    values = (torch.randn(3, channels, 13, 41) * scale).to(device, dtype)
    values = LAYOUTS[layout](values)
    for axis in (None, 1, 2, -1):
        assert_matches_reference([values, values.relu()], axis)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3), (3, 0)], ids=str)
def test_empty_tensors_change_nothing(shape: tuple[int, ...], device: torch.device):
    values = torch.randn(shape, device=device)
    for axis in (None, *range(len(shape))):
        counts, exponents, zeros = assert_matches_reference([values], axis)
        assert not counts.any()
        assert not zeros.any()
        assert (exponents == SMALLEST_EXPONENT).all()


@given(
    st.lists(st.lists(FLOATS, max_size=40), min_size=1, max_size=4),
    st.sampled_from([8, 32, 8192]),
    st.booleans(),
)
def test_any_batches_match_reference_and_one_pass(
    batches: list[list[float]], bins: int, relu: bool
):
    tensors = [torch.tensor(batch, dtype=torch.float32) for batch in batches]
    state = assert_matches_reference(tensors, None, relu=relu, bins=bins)
    whole = assert_matches_reference([torch.cat(tensors)], None, relu=relu, bins=bins)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(state, whole, strict=True))


@given(st.integers(-149, 127), st.integers(0, 2000), st.sampled_from([8, 64]))
def test_powers_of_two_and_blocks_of_any_size(exponent: int, size: int, bins: int):
    edge = torch.tensor(2.0**exponent)
    below = torch.nextafter(edge, torch.tensor(0.0))
    values = torch.stack([edge, -edge, below, -below, torch.tensor(0.0)]).repeat(size // 5 + 1)
    counts, *_ = assert_matches_reference([values[:size], values], None, bins=bins)
    assert counts.sum() == size + len(values)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("axis", [None, 1], ids=["tensor", "channels"])
def test_refuses_non_finite_values_and_changes_nothing(
    bad: float, axis: int | None, device: torch.device
):
    values = torch.randn(2, 5, 700, device=device)
    assert_matches_reference([values], axis)
    values[1, 3, 600] = bad
    state = assert_matches_reference([values, values.nan_to_num(0, 0, 0), 9 * values], axis)
    assert state[0].sum() == values.numel()
    bounds = update_histogram(*state, values, axis)
    assert bounds[2].tolist() == (1 if axis is None else [0, 0, 0, 1, 0])


def test_fused_relu_keeps_nan_and_drops_negative_infinity(device: torch.device):
    values = torch.tensor([-math.inf, -1.0, -0.0, 2.0], device=device)
    state = new_state(device=device)
    assert [bound.item() for bound in update_histogram(*state, values, relu=True)] == [0, 2, 0]
    assert state[2] == 3
    nan = torch.tensor([math.nan, -1.0], device=device)
    assert [bound.item() for bound in update_histogram(*state, nan, relu=True)] == [0, 0, 1]
    assert state[2] == 3


def test_equal_values_and_long_tensors(device: torch.device):
    """Every counter is emptied, every block and vector filled in part and in full."""
    for size in (15, 16, 511, 512, 513, 2**18 + 7):
        values = torch.full((size,), -1.25, device=device)
        counts, exponent, _ = assert_matches_reference([values, values], None)
        assert counts[BINS // 2 + math.floor(-1.25 / 2.0 ** exponent.item())] == 2 * size


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_threads_do_not_change_counts(axis: int | None):
    values, threads = torch.randn(40, 19, 700).relu(), torch.get_num_threads()
    values[-1] *= 1000
    try:
        for count in (1, 3, 8):
            torch.set_num_threads(count)
            assert_matches_reference([values, values.transpose(0, 2).contiguous().mT], None)
            assert_matches_reference([values, -values], axis)
    finally:
        torch.set_num_threads(threads)


def test_counts_beyond_32_bits_add_up():
    counts, exponents, zeros = new_state()
    counts[BINS // 2] = 2**62
    update_histogram(counts, exponents, zeros, torch.zeros(5))
    assert counts[BINS // 2] == 2**62 + 5


@pytest.mark.parametrize("route", ROUTES)
def test_rejects_a_state_on_another_device(route: str):
    function, device = ROUTES[route]
    other = "cpu" if device == "meta" else "meta"
    with pytest.raises(ValueError, match=f"expected counts on {device}, got {other}"):
        function(*new_state(device=other), torch.zeros(3, device=device))


@pytest.mark.parametrize("route", ["kernel", "reference"])
def test_rejects_a_damaged_state_and_counts_nothing(route: str):
    function, _ = ROUTES[route]
    counts, exponents, zeros = new_state(2)
    exponents[1] = 127
    with pytest.raises(ValueError, match="expected exponents from -126 to 126, got 127"):
        function(counts, exponents, zeros, torch.ones(3, 2), 1)
    counts, exponents, zeros = new_state()
    counts[-1], counts[0] = 2**63 - 9, 4
    with pytest.raises(ValueError, match=r"counts that stay below 2\*\*63 in sum"):
        function(counts, exponents, zeros, torch.ones(5))
    function(counts, exponents, zeros, torch.ones(4))
    assert counts.sum() == 2**63 - 1


def test_opcheck(device: torch.device):
    torch.library.opcheck(op, (*new_state(device=device), torch.randn(4, 5, device=device)))
    channels = (*new_state(5, device=device), torch.randn(4, 5, device=device), 1, True)
    torch.library.opcheck(op, channels)


@pytest.mark.cuda
def test_update_is_capturable():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    values, state = torch.randn(4, 8, 9, device="cuda"), new_state(device="cuda")
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.cuda.graph(graph, stream=stream):
        update_histogram(*state, values)
    batches = [values.clone(), 100 * values]
    for batch in batches:
        values.copy_(batch)
        graph.replay()
    expected = assert_matches_reference(batches, None)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(state, expected, strict=True))
