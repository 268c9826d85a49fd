import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from repq_fx.ops import fake_quantize, fake_quantize_reference

op = torch.ops.repq_fx.fake_quantize.default
ROUTES = {
    "kernel": (op, "cpu"),
    "reference": (fake_quantize_reference, "cpu"),
    "fake": (op, "meta"),
}
X, SCALE, ZERO = torch.zeros(2, 3), torch.ones(3), torch.zeros(3, dtype=torch.int32)
BAD_INPUTS = {
    "double_input": ((X.double(), SCALE, ZERO, 0, 7, 1), "float32 input, got float64"),
    "double_scale": ((X, SCALE.double(), ZERO, 0, 7, 1), "float32 scale, got float64"),
    "float_zero_point": ((X, SCALE, SCALE, 0, 7, 1), "int32 or int64 zero_point, got float32"),
    "empty_grid": ((X, SCALE, ZERO, 7, 7, 1), "quant_min=7, quant_max=7"),
    "wide_grid": ((X, SCALE, ZERO, 0, 2**24 + 1, 1), "quant_max=16777217"),
    "axis_too_high": ((X, SCALE, ZERO, 0, 7, 2), "axis of a tensor with 2 dimensions, got 2"),
    "axis_too_low": ((X, SCALE, ZERO, 0, 7, -3), "axis of a tensor with 2 dimensions, got -3"),
    "scale_of_other_axis": ((X, SCALE, ZERO, 0, 7, 0), r"scale of shape \[2\], got \[3\]"),
    "scale_matrix": ((X, X, ZERO, 0, 7, 1), r"scale of shape \[3\], got \[2, 3\]"),
    "zero_point_shape": (
        (X, SCALE, ZERO[:1], 0, 7, 1),
        r"zero_point of shape \[3\], got \[1\]",
    ),
    "scale_without_axis": ((X, SCALE, ZERO, 0, 7), r"scale of shape \[\] or \[1\], got \[3\]"),
}


def parameters(input: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
    """Scales of 0.02 to 0.12 and zero points of -5 to 5 that fit `input`."""
    shape = () if axis is None else (input.shape[axis],)
    scale = torch.rand(shape, device=input.device) / 10 + 0.02
    return scale, torch.randint(-5, 6, shape, device=input.device, dtype=torch.int32)


def straight_through(
    input: Tensor, scale: Tensor, zero: Tensor, quant_min: int, quant_max: int
) -> Tensor:
    """The formula, with a rounding that autograd takes for the identity.

    Not with `clamp`: releases of torch differ in its gradient at the limits themselves.
    """
    scaled = input / scale
    rounded = scaled.round().detach() + (scaled - scaled.detach())
    levels = rounded + zero
    levels = torch.where(levels < quant_min, quant_min, levels)
    levels = torch.where(levels > quant_max, quant_max, levels)
    return (levels - zero) * scale


def test_matches_reference_per_tensor(values: Tensor):
    scale, zero_point = parameters(values, None)
    output = fake_quantize(values, scale, zero_point, -128, 127)
    expected = fake_quantize_reference(values, scale, zero_point, -128, 127)
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    assert output.stride() == torch.empty_like(values).stride()


def test_matches_reference_per_channel(values: Tensor):
    for axis in range(-values.dim(), values.dim()):
        scale, zero_point = parameters(values, axis)
        output = fake_quantize(values, scale, zero_point, -128, 127, axis)
        expected = fake_quantize_reference(values, scale, zero_point, -128, 127, axis)
        torch.testing.assert_close(output, expected, rtol=0, atol=0)
        assert output.stride() == torch.empty_like(values).stride()


@pytest.mark.parametrize("shape", [(), (1,)], ids=["scalar", "vector"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_forms_of_one_scale(device: torch.device, shape: tuple[int, ...], dtype: torch.dtype):
    x = torch.tensor([-9.0, -0.25, 0.25, 0.75, 9.0, math.nan], device=device)
    scale = torch.full(shape, 0.5, device=device)
    zero_point = torch.full(shape, 1, device=device, dtype=dtype)
    output = fake_quantize(x, scale, zero_point, -8, 7)
    expected = x.new_tensor([-4.5, 0.0, 0.0, 1.0, 3.0, math.nan])  # Ties go to even levels.
    torch.testing.assert_close(output, expected, rtol=0, atol=0, equal_nan=True)


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), max_size=100),
    st.floats(2.0**-12, 16, width=32),
    st.integers(-8, 7),
)
def test_is_idempotent(values: list[float], scale: float, zero_point: int):
    grid = (torch.tensor(scale), torch.tensor(zero_point), -8, 7)
    once = fake_quantize(torch.tensor(values, dtype=torch.float32), *grid)
    assert torch.equal(fake_quantize(once, *grid), once)


@pytest.mark.parametrize("axis", [None, 0, 1, -1], ids=["tensor", "first", "middle", "last"])
def test_gradients(device: torch.device, axis: int | None):
    x = torch.randn(4, 5, 6, device=device, requires_grad=True)
    scale, zero_point = parameters(x, axis)
    scale.requires_grad_()
    shape = [1] * x.dim()
    if axis is not None:
        shape[axis] = -1
    upstream = torch.randn_like(x)
    # Nearly half of the values lie outside of this grid.
    fake_quantize(x, scale, zero_point, -8, 7, axis).backward(upstream)
    expected = torch.autograd.grad(
        straight_through(x, scale.view(shape), zero_point.view(shape), -8, 7),
        (x, scale),
        upstream,
    )
    torch.testing.assert_close((x.grad, scale.grad), expected)


def test_gradient_of_the_scale_alone():
    scale = torch.tensor([0.1], requires_grad=True)
    fake_quantize(torch.randn(10), scale, torch.tensor([0]), -8, 7).sum().backward()
    assert scale.grad is not None
    assert scale.grad.shape == (1,)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("case", BAD_INPUTS)
def test_rejects_bad_input(route: str, case: str):
    function, device = ROUTES[route]
    arguments, words = BAD_INPUTS[case]
    moved = [arg.to(device) if isinstance(arg, Tensor) else arg for arg in arguments]
    with pytest.raises((TypeError, ValueError), match=f"^fake_quantize: expected .*{words}"):
        function(*moved)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("function", [op, fake_quantize_reference], ids=["kernel", "reference"])
def test_rejects_parameters_on_another_device(function):
    with pytest.raises(ValueError, match="expected scale on cuda:0, got cpu"):
        function(X.cuda(), SCALE, ZERO, 0, 7, 1)


# torch's own tracing of gradients, which opcheck runs, reads `.grad` of intermediate tensors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("axis", [None, 1], ids=["tensor", "channel"])
def test_opcheck(device: torch.device, axis: int | None):
    x = torch.randn(4, 5, device=device, requires_grad=True)
    scale, zero_point = parameters(x, axis)
    torch.library.opcheck(op, (x, scale.requires_grad_(), zero_point, -8, 7, axis))
