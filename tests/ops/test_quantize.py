import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from repq_fx.ops import fake_quantize, quantize, quantize_reference

op = torch.ops.repq_fx.quantize.default
ROUTES = {"kernel": (op, "cpu"), "reference": (quantize_reference, "cpu"), "fake": (op, "meta")}
GRIDS = {
    "uint8": (0.03, 117, 0, 255, torch.uint8),
    "int8": (0.05, -3, -128, 127, torch.int8),
    "unsigned_4_bit": (0.2, 0, 0, 15, torch.uint8),
    "signed_6_bit": (0.1, 4, -32, 31, torch.int8),
}
BAD_INPUTS = {
    "double": (torch.zeros(3).double(), 1.0, 0, 0, 255, "float32 input, got float64"),
    "zero_scale": (torch.zeros(3), 0.0, 0, 0, 255, r"scale from .* to 2\*\*126, got 0$"),
    "negative_scale": (torch.zeros(3), -0.5, 0, 0, 255, "got -0.5$"),
    "nan_scale": (torch.zeros(3), math.nan, 0, 0, 255, "got nan$"),
    "infinite_scale": (torch.zeros(3), math.inf, 0, 0, 255, "got inf$"),
    "empty_grid": (torch.zeros(3), 1.0, 5, 5, 5, "quant_min=5, quant_max=5$"),
    "nine_bits": (torch.zeros(3), 1.0, 0, 0, 256, "quant_min=0, quant_max=256$"),
    "signed_and_wide": (torch.zeros(3), 1.0, 0, -1, 128, "quant_min=-1, quant_max=128$"),
    "zero_outside": (torch.zeros(3), 1.0, 16, 0, 15, "zero_point from 0 to 15, got 16$"),
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_matches_reference(values: Tensor, grid):
    *arguments, dtype = grid
    output = quantize(values, *arguments)
    assert output.dtype == dtype
    assert output.stride() == torch.empty_like(values).stride()
    assert torch.equal(output, quantize_reference(values, *arguments))


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
)
def test_dequantized_equals_fake_quantized(
    extreme: list[float],
    moderate: list[float],
    scale: float,
    levels: tuple[int, int],
    position: float,
):
    values = torch.tensor(extreme + moderate, dtype=torch.float32)
    zero_point = round(levels[0] + position * (levels[1] - levels[0]))
    codes = quantize(values, scale, zero_point, *levels)
    dequantized = (codes.float() - zero_point) * scale
    fake = fake_quantize(values, torch.tensor(scale), torch.tensor(zero_point), *levels)
    assert torch.equal(dequantized, fake)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("case", BAD_INPUTS)
def test_rejects_bad_input(route: str, case: str):
    function, device = ROUTES[route]
    values, *arguments, words = BAD_INPUTS[case]
    with pytest.raises((TypeError, ValueError), match=f"^quantize: expected .*{words}"):
        function(values.to(device), *arguments)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_opcheck(device: torch.device, grid):
    torch.library.opcheck(op, (torch.randn(4, 5, device=device), *grid[:-1]))
