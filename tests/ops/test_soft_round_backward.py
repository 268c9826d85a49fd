import pytest
import torch
from torch import Tensor

from repq_fx.ops import soft_round_backward_reference

op = torch.ops.repq_fx.soft_round_backward.default
ROUTES = {
    "kernel": (op, "cpu"),
    "reference": (soft_round_backward_reference, "cpu"),
    "fake": (op, "meta"),
}
W, SCALE, ZERO, ONE = torch.zeros(2, 3), torch.ones(3), torch.zeros(3), torch.ones(())
BAD_INPUTS = {
    "grad_shape": (
        (W[0], ONE, W, W, SCALE, ZERO, 0, 7, 1),
        r"grad of shape \[2, 3\], got \[3\]$",
    ),
    "half_grad": ((W.half(), ONE, W, W, SCALE, ZERO, 0, 7, 1), "float32 grad, got float16$"),
    "regularizer_dtype": (
        (W, ONE.double(), W, W, SCALE, ZERO, 0, 7, 1),
        "float32 grad_regularizer, got float64$",
    ),
    "regularizer_shape": (
        (W, ONE.view(1), W, W, SCALE, ZERO, 0, 7, 1),
        r"grad_regularizer of shape \[\], got \[1\]$",
    ),
    "beta": ((W, ONE, W, W, SCALE, ZERO, 0, 7, 1, 0.0), "beta from 1 to 1024, got 0$"),
}


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


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("case", BAD_INPUTS)
def test_rejects_bad_input(route: str, case: str):
    function, device = ROUTES[route]
    arguments, words = BAD_INPUTS[case]
    moved = [arg.to(device) if isinstance(arg, Tensor) else arg for arg in arguments]
    with pytest.raises((TypeError, ValueError), match=f"^soft_round: expected .*{words}"):
        function(*moved)


@pytest.mark.parametrize("axis", [None, 1], ids=["tensor", "channel"])
def test_opcheck(device: torch.device, axis: int | None):
    weight = torch.randn(4, 5, device=device)
    gradients = (torch.randn_like(weight), torch.ones((), device=device))
    tensors = (*gradients, weight, torch.randn_like(weight), *grids(weight, axis))
    torch.library.opcheck(op, (*tensors, -8, 7, axis, 3.0))
