import pytest
import torch
from torch import Tensor

from repq_fx.ops import dequantize, dequantize_reference

op = torch.ops.repq_fx.dequantize.default


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


def test_opcheck(device: torch.device):
    torch.library.opcheck(op, (torch.arange(12, device=device).view(3, 4).char(), 0.1, -3))
