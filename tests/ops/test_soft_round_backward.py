import pytest
import torch
from torch import Tensor

from repq_fx.ops import soft_round_backward_reference

op = torch.ops.repq_fx.soft_round_backward.default


def grids(weight: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
    """Scales of 0.1 to 0.6 and zero points of -2 to 2 that fit `weight`."""
    shape = () if axis is None else (weight.shape[axis],)
    scale = torch.rand(shape, device=weight.device) / 2 + 0.1
    return scale, torch.randint(-2, 3, shape, device=weight.device)


@pytest.mark.parametrize("beta", [None, 1.0, 7.3, 20.0], ids=str)
def test_matches_reference(values: Tensor, beta: float | None):
    for axis in (None, *range(values.dim())):
        grad, logits = torch.randn(2, *values.shape, device=values.device).unbind()
        grad_regularizer = torch.tensor(0.3, device=values.device)
        tensors = (grad, grad_regularizer, values, logits * 2, *grids(values, axis))
        output = op(*tensors, -8, 7, axis, beta)
        expected = soft_round_backward_reference(*tensors, -8, 7, axis, beta)
        torch.testing.assert_close(output, expected, rtol=0, atol=0)
        assert output.stride() == torch.empty_like(values).stride()


@pytest.mark.parametrize("axis", [None, 1], ids=["tensor", "channel"])
def test_opcheck(device: torch.device, axis: int | None):
    weight = torch.randn(4, 5, device=device)
    gradients = (torch.randn_like(weight), torch.ones((), device=device))
    tensors = (*gradients, weight, torch.randn_like(weight), *grids(weight, axis))
    torch.library.opcheck(op, (*tensors, -8, 7, axis, 3.0))
