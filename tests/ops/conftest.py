"""Inputs that every operator is tested on."""

import pytest
import torch
from torch import Tensor

LAYOUTS = {
    "scalar": lambda: torch.randn(()),
    "empty": lambda: torch.randn(0, 3),
    "one": lambda: torch.randn(1),
    "odd": lambda: torch.randn(7, 3),
    "large": lambda: torch.randn(3, 2**20 // 3 + 5),
    "misaligned": lambda: torch.randn(1001)[1:].view(10, 100),
    "channels_last": lambda: torch.randn(2, 19, 5, 6).to(memory_format=torch.channels_last),
    "transposed": lambda: torch.randn(33, 65).t(),
    "strided": lambda: torch.randn(6, 10, 50)[:, ::2, 1::3],
    "expanded": lambda: torch.randn(9, 1).expand(9, 4),
    "special": lambda: torch.tensor([[0.0, -0.0, 1e-45, -1e-45], [torch.inf, -torch.inf, 3e38, 0]]),
}


@pytest.fixture(params=LAYOUTS)
def values(request: pytest.FixtureRequest, device: torch.device) -> Tensor:
    """float32 values of about -6 to 6 in each memory layout, and special values; no NaN."""
    tensor = LAYOUTS[request.param]()
    if request.param == "misaligned":  # A copy to another device would align it.
        return torch.cat([tensor.new_zeros(1), tensor.flatten()]).to(device)[1:].view_as(tensor)
    return tensor.to(device) if device.type != "cpu" else tensor
