import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from repq_fx.ops import Rounding, dequantize, fake_quantize, quantize, quantize_reference

op = torch.ops.repq_fx.quantize.default
GRIDS = {
    "uint8": (0.03, 117, 0, 255, torch.uint8),
    "int8": (0.05, -3, -128, 127, torch.int8),
    "unsigned_4_bit": (0.2, 0, 0, 15, torch.uint8),
    "signed_6_bit": (0.1, 4, -32, 31, torch.int8),
}
MODES = {  # rounding, seed
    "nearest_even": (Rounding.NEAREST_EVEN, 0),
    "half_up": (Rounding.HALF_UP, 0),
    "floor": (Rounding.FLOOR, 0),
    "stochastic": (Rounding.STOCHASTIC, -7),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_matches_reference(values: Tensor, grid, mode: str):
    *arguments, dtype = grid
    output = op(values, *arguments, *MODES[mode])
    assert output.dtype == dtype
    assert output.stride() == torch.empty_like(values).stride()
    assert torch.equal(output, quantize_reference(values, *arguments, *MODES[mode]))


def test_rounds_ties_to_even_and_nan_to_the_lowest_level(device: torch.device):
    values = torch.tensor([0.5, 1.5, -0.5, 300, -300, math.inf, -math.inf, math.nan], device=device)
    assert quantize(values, 1.0, 0, -100, 100).tolist() == [0, 2, 0, 100, -100, 100, -100, -100]


def test_scale_is_rounded_to_float32_first(device: torch.device):
    # 0.1 in double precision and in float32 divide this value to different sides of a tie.
    values, scale = torch.arange(0, 100, 0.05, device=device), torch.tensor(0.1).item()
    assert torch.equal(quantize(values, 0.1, 0, 0, 255), quantize(values, scale, 0, 0, 255))


@given(
    st.lists(st.floats(width=32, allow_nan=False), max_size=50),
    st.lists(st.floats(-64, 64, width=32), max_size=50),
    st.floats(2.0**-20, 2.0**10, width=32),
    st.sampled_from([(0, 255), (-128, 127), (0, 15), (-8, 7)]),
    st.floats(0, 1),
    st.sampled_from(list(MODES.values())),
)
def test_dequantized_equals_fake_quantized(
    extreme: list[float],
    moderate: list[float],
    scale: float,
    levels: tuple[int, int],
    position: float,
    mode: tuple[Rounding, int],
):
    values = torch.tensor(extreme + moderate, dtype=torch.float32)
    zero_point = round(levels[0] + position * (levels[1] - levels[0]))
    rounding, seed = mode
    codes = quantize(values, scale, zero_point, *levels, rounding=rounding, seed=seed)
    grid = (torch.tensor(scale), torch.tensor(zero_point), *levels)
    fake = fake_quantize(values, *grid, rounding=rounding, seed=seed)
    assert torch.equal(dequantize(codes, scale, zero_point), fake)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_opcheck(device: torch.device, grid):
    torch.library.opcheck(op, (torch.randn(4, 5, device=device), *grid[:-1]))
