import pytest
import torch
from torch import Tensor

from repq_fx.ops import dequantize, dequantize_reference

op = torch.ops.repq_fx.dequantize.default
ROUTES = {"kernel": (op, "cpu"), "reference": (dequantize_reference, "cpu"), "fake": (op, "meta")}
LEVELS = torch.zeros(3, dtype=torch.uint8)
BAD_INPUTS = {
    "int16": (LEVELS.short(), 1.0, 0, "uint8 or int8 input, got int16$"),
    "zero_scale": (LEVELS, 0.0, 0, r"scale from 2\*\*-126 to 2\*\*126, got 0$"),
    "negative_scale": (LEVELS, -0.5, 0, "got -0.5$"),
    "nan_scale": (LEVELS, float("nan"), 0, "got nan$"),
    "unsigned_zero": (LEVELS, 1.0, -1, "zero_point from 0 to 255, got -1$"),
    "signed_zero": (LEVELS.char(), 1.0, 128, "zero_point from -128 to 127, got 128$"),
}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8], ids=str)
def test_matches_reference(values: Tensor, dtype: torch.dtype):
    levels = (values.nan_to_num(0, 100, 20) * 20).to(torch.int32).to(dtype)
    output = dequantize(levels, 0.3, 7)
    assert output.stride() == torch.empty_like(levels).stride()
    torch.testing.assert_close(output, dequantize_reference(levels, 0.3, 7), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8], ids=str)
def test_every_level(device: torch.device, dtype: torch.dtype):
    levels = torch.arange(256, device=device).to(dtype)
    expected = (levels.float() - 5) * 0.25  # No step rounds.
    assert torch.equal(dequantize(levels, 0.25, 5), expected)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("case", BAD_INPUTS)
def test_rejects_bad_input(route: str, case: str):
    function, device = ROUTES[route]
    levels, *arguments, words = BAD_INPUTS[case]
    with pytest.raises((TypeError, ValueError), match=f"^dequantize: expected .*{words}"):
        function(levels.to(device), *arguments)


def test_opcheck(device: torch.device):
    torch.library.opcheck(op, (torch.arange(12, device=device).view(3, 4).char(), 0.1, -3))
