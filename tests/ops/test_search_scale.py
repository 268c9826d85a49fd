import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from repq_fx.ops import has_extension, search_scale, search_scale_reference

op = torch.ops.repq_fx.search_scale.default
POWERS = [1.0, 2.0, 2.4]
LAYOUTS = {
    "no_rows": lambda: torch.randn(0, 3),
    "no_columns": lambda: torch.randn(3, 0),
    "one": lambda: torch.randn(1, 1),
    "depthwise": lambda: torch.randn(33, 9),
    "convolution": lambda: torch.randn(7, 576),
    "several_chunks": lambda: torch.randn(2, 2**14 + 1030),
    "misaligned": lambda: torch.randn(1001)[1:].view(10, 100),
    "transposed": lambda: torch.randn(33, 65).t(),
    "strided": lambda: torch.randn(6, 10, 50)[:, 3, 1::3],
    "padded_rows": lambda: torch.randn(6, 50)[:, 1:42],
    "expanded": lambda: torch.randn(1, 40).expand(5, 40),
    "heavy_tails": lambda: torch.randn(16, 200).pow(5),
    "dead_channels": lambda: torch.tensor([[0.0, -0.0], [1e-24, -1e-24], [1e-45, 0.0]]),
    "huge": lambda: torch.randn(4, 50) * 1e37,
    # Many equal errors, so that candidates tie.
    "ties": lambda: torch.randint(-4, 5, (50, 8)) / 4.0,
}


def widest_of(rows: Tensor, quant_max: int) -> Tensor:
    largest = rows.abs().amax(1) if rows.shape[1] else rows.new_ones(len(rows))
    return (largest / quant_max).clamp_min(2.0**-60)


def both(rows: Tensor, quant_max: int, power: float, importance: Tensor | None):
    arguments = (rows, widest_of(rows, quant_max), -quant_max, quant_max, power, importance)
    return search_scale(*arguments), search_scale_reference(*arguments)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("power", POWERS)
def test_matches_reference(device: torch.device, layout: str, power: float):
    rows = LAYOUTS[layout]().to(device)
    for quant_max in (1, 7, 127):
        scale, expected = both(rows, quant_max, power, None)
        torch.testing.assert_close(scale, expected, rtol=0, atol=0)


@pytest.mark.parametrize("power", POWERS)
def test_matches_reference_with_importance(device: torch.device, power: float):
    rows = torch.randn(9, 1500, device=device)
    importance = torch.rand(9, 3000, device=device, dtype=torch.float64)[:, ::2]
    importance = importance.where(importance > 0.2, 0.0)
    for weights in (importance, importance.contiguous(), importance[:1].expand_as(rows)):
        scale, expected = both(rows, 7, power, weights)
        torch.testing.assert_close(scale, expected, rtol=0, atol=0)


@given(
    shape=st.tuples(st.integers(0, 20), st.integers(0, 300)),
    offset=st.integers(0, 3),
    bits=st.sampled_from([2, 3, 4, 6, 8, 16]),
    power=st.sampled_from([*POWERS, 0.3, 3.0, 16.0]),
    spread=st.floats(0, 8),
    weighted=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_matches_reference_on_any_shape(shape, offset, bits, power, spread, weighted, seed):
    generator = torch.Generator().manual_seed(seed)
    memory = torch.randn(shape[0] * shape[1] + offset, generator=generator)
    rows = memory[offset:].view(shape)
    rows = rows * torch.rand(shape, generator=generator).pow(spread)
    importance = torch.rand(shape, generator=generator, dtype=torch.float64) if weighted else None
    scale, expected = both(rows, 2 ** (bits - 1) - 1, power, importance)
    torch.testing.assert_close(scale, expected, rtol=0, atol=0)


@pytest.mark.parametrize("power", POWERS)
def test_no_candidate_loses_less(device: torch.device, power: float):
    rows = torch.randn(40, 100, device=device).pow(3)
    widest = widest_of(rows, 7)
    scale = search_scale(rows, widest, -7, 7, power)
    candidates = widest[:, None] * (1 - 0.01 * torch.arange(80, device=device))
    steps = candidates[:, :, None]
    error = (rows[:, None] / steps).round().clamp(-7, 7) * steps - rows[:, None]
    loss = error.double().abs().pow(power).sum(2)
    chosen = (candidates - scale[:, None]).abs().argmin(1, keepdim=True)
    assert (loss.gather(1, chosen)[:, 0] <= loss.amin(1) * (1 + 1e-5)).all()
    assert (scale < widest).any()


def test_the_widest_of_equal_candidates_wins(device: torch.device):
    rows = torch.zeros(3, 20, device=device)
    widest = torch.rand(3, device=device) + 1
    assert torch.equal(search_scale(rows, widest, -7, 7, 2.0), widest)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_ends_nowhere_else(device: torch.device, value: float):
    rows = torch.randn(3, 20, device=device)
    expected = both(rows, 7, 2.0, None)[0]
    rows[1, 4] = value
    scale, reference = both(rows, 7, 2.0, None)
    torch.testing.assert_close(scale, reference, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(scale[::2], expected[::2])


@pytest.mark.skipif(not has_extension(), reason="the reference takes minutes")
def test_a_whole_tensor_as_one_row(device: torch.device):
    # A period of a power of two only doubles each loss, exactly, and the last zero adds nothing.
    period = torch.randn(1, 2**10, device=device)
    expected = search_scale(period, widest_of(period, 7), -7, 7, 2.0)
    row = torch.cat([period.repeat(1, 2**14), period.new_zeros(1, 1)], 1)
    assert torch.equal(search_scale(row, widest_of(row, 7), -7, 7, 2.0), expected)


@pytest.mark.parametrize("shape", [(300, 40), (2, 2**16 + 5)], ids=["many_rows", "long_rows"])
def test_threads_change_nothing(shape: tuple[int, int]):
    rows = torch.randn(shape)
    scales, threads = [], torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        scales.append(search_scale(rows, widest_of(rows, 127), -127, 127, 1.0))
    torch.set_num_threads(threads)
    assert torch.equal(scales[0], scales[1])
    assert torch.equal(scales[0], scales[2])


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_opcheck(device: torch.device, weighted: bool):
    rows = torch.randn(4, 50, device=device)
    importance = torch.rand(4, 50, device=device, dtype=torch.float64) if weighted else None
    torch.library.opcheck(op, (rows, widest_of(rows, 7), -7, 7, 2.4, importance))
