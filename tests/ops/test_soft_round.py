import pytest
import torch
from torch import Tensor

from repq_fx.ops import soft_round, soft_round_reference

op = torch.ops.repq_fx.soft_round.default
BETAS = {"warm_up": None, "soft": 1.0, "middle": 7.3, "hard": 20.0}


def grids(weight: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
    """Scales of 0.1 to 0.6 and zero points of -2 to 2 that fit `weight`."""
    shape = () if axis is None else (weight.shape[axis],)
    scale = torch.rand(shape, device=weight.device) / 2 + 0.1
    return scale, torch.randint(-2, 3, shape, device=weight.device)


def exact(
    weight: Tensor,
    logits: Tensor,
    scale: Tensor,
    zero: Tensor,
    limits: tuple[int, int],
    beta: float,
) -> tuple[Tensor, Tensor]:
    """The formulas in float64, which autograd differentiates."""
    h = (1.2 * logits.sigmoid() - 0.1).clamp(0, 1)
    levels = (weight / scale).floor() + zero + h
    return (levels.clamp(*limits) - zero) * scale, (1 - (2 * h - 1).abs() ** beta).sum()


@pytest.mark.parametrize("beta", BETAS)
def test_matches_reference(values: Tensor, beta: str):
    for axis in (None, *range(values.dim())):
        logits = torch.randn(values.shape, device=values.device) * 2
        arguments = (values, logits, *grids(values, axis), -8, 7, axis, BETAS[beta])
        output, expected = soft_round(*arguments), soft_round_reference(*arguments)
        torch.testing.assert_close(output, expected, rtol=0, atol=0)
        assert output[0].stride() == torch.empty_like(values).stride()


def test_series_are_close_to_the_functions(device: torch.device):
    logits = torch.linspace(-6, 6, 10_001, device=device)
    one, zero = torch.ones((), device=device), torch.zeros((), device=device)
    for beta in (1.0, 2.0, 3.7, 20.0, 100.0):
        value, regularizer = soft_round(
            torch.zeros_like(logits), logits, one, zero, 0, 1, None, beta
        )
        expected, total = exact(torch.zeros_like(logits), logits.double(), one, zero, (0, 1), beta)
        torch.testing.assert_close(value.double(), expected, rtol=0, atol=4 * 2.0**-24)
        torch.testing.assert_close(regularizer.double(), total, rtol=1e-5, atol=0)


@pytest.mark.parametrize("axis", [None, 0, 1, -1], ids=["tensor", "first", "middle", "last"])
def test_gradients(device: torch.device, axis: int | None):
    weight = torch.randn(4, 5, 6, device=device)
    logits = torch.randn_like(weight).mul_(2).requires_grad_()
    scale, zero_point = grids(weight, axis)
    shape = [1] * weight.dim()
    if axis is not None:
        shape[axis] = -1
    value, regularizer = soft_round(weight, logits, scale, zero_point, -2, 1, axis, 3.0)
    upstream = torch.randn_like(weight)
    ((value * upstream).sum() + 0.7 * regularizer).backward()
    leaf = logits.detach().double().requires_grad_()
    grid = (scale.view(shape).double(), zero_point.view(shape))
    value, regularizer = exact(weight.double(), leaf, *grid, (-2, 1), 3.0)
    (expected,) = torch.autograd.grad((value * upstream).sum() + 0.7 * regularizer, leaf)
    torch.testing.assert_close(logits.grad, expected.float(), rtol=1e-5, atol=1e-6)


def test_decided_logits_round_down_and_up(device: torch.device):
    weight = torch.tensor([0.2, 0.2, -0.2, -0.2, 9.0, -9.0], device=device)
    logits = torch.tensor([-2.5, 2.5, -2.5, 2.5, 2.5, -2.5], device=device)
    one, zero = torch.ones((), device=device), torch.zeros((), device=device)
    value, regularizer = soft_round(weight, logits, one, zero, -4, 3, beta=2.0)
    assert value.tolist() == [0, 1, -1, 0, 3, -4]
    assert regularizer.item() == 0


def test_threads_do_not_change_the_result():
    weight, logits = torch.randn(2, 50, 64, 53).unbind()
    arguments = (weight, logits, *grids(weight, 1), -8, 7, 1, 5.0)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(soft_round(*arguments))
    torch.set_num_threads(threads)
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=0, atol=0)


# torch's own tracing of gradients, which opcheck runs, reads `.grad` of intermediate tensors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("axis", [None, 1], ids=["tensor", "channel"])
def test_opcheck(device: torch.device, axis: int | None, beta: str):
    weight = torch.randn(4, 5, device=device)
    logits = torch.randn_like(weight).requires_grad_()
    torch.library.opcheck(op, (weight, logits, *grids(weight, axis), -8, 7, axis, BETAS[beta]))
