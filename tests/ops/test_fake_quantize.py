import math
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from repq_fx.ops import Rounding, fake_quantize, fake_quantize_reference

op = torch.ops.repq_fx.fake_quantize.default
MODES = {  # rounding, keep, seed
    "nearest_even": (Rounding.NEAREST_EVEN, 0.0, 0),
    "half_up": (Rounding.HALF_UP, 0.0, 0),
    "floor": (Rounding.FLOOR, 0.0, 0),
    "stochastic": (Rounding.STOCHASTIC, 0.0, 2**63 - 1),
    "half_kept": (Rounding.NEAREST_EVEN, 0.5, -5),
    "all_kept": (Rounding.FLOOR, 1.0, 3),
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


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_modes_match_reference(values: Tensor, dtype: torch.dtype, mode: str):
    for axis in (None, *range(values.dim())):
        x = values.to(dtype)
        grid = (*parameters(x, axis), -20, 21, axis, *MODES[mode])
        output = op(x, *grid)
        assert output.dtype == dtype
        torch.testing.assert_close(output, fake_quantize_reference(x, *grid), rtol=0, atol=0)


@given(
    st.lists(st.integers(0, 9), max_size=4),
    st.integers(0, 3),
    st.sampled_from(list(MODES.values())),
    st.randoms(use_true_random=False),
)
def test_any_strides_match_reference(shape: list[int], offset: int, mode: tuple, random: Random):
    shape = [shape.pop() * random.choice([1, 1, 30]), *shape] if shape else shape
    order = random.sample(range(len(shape)), len(shape))
    storage = torch.randn(math.prod(shape) + offset)[offset:]
    x = storage.view([shape[i] for i in order]).permute([order.index(i) for i in range(len(shape))])
    axis = random.choice([None, *range(len(shape))])
    grid = (*parameters(x, axis), -20, 21, axis, *mode)
    torch.testing.assert_close(op(x, *grid), fake_quantize_reference(x, *grid), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("rounding", "levels"),
    [
        (Rounding.NEAREST_EVEN, [-2, 0, 0, 2, 2]),
        (Rounding.HALF_UP, [-1, 0, 1, 2, 2]),
        (Rounding.FLOOR, [-2, -1, 0, 1, 2]),
    ],
    ids=str,
)
def test_ties(device: torch.device, rounding: Rounding, levels: list[int]):
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.0], device=device)
    one, zero = x.new_ones(()), x.new_zeros(())
    assert fake_quantize(x, one, zero, -8, 7, rounding=rounding).tolist() == levels


def test_stochastic_rounding_has_the_right_mean_and_leaves_levels(device: torch.device):
    one, zero = torch.ones((), device=device), torch.zeros((), device=device)
    for value in (-3.0, -1.25, 0.1, 2.0, 5.75):
        x = torch.full((40_000,), value, device=device)
        output = fake_quantize(x, one, zero, -8, 7, rounding=Rounding.STOCHASTIC, seed=1)
        assert set(output.tolist()) <= {math.floor(value), math.ceil(value)}
        assert abs(output.mean().item() - value) < 0.01


def test_keeps_the_share_asked_for(device: torch.device):
    x = torch.rand(40_000, device=device) + 0.1
    grid = (torch.ones((), device=device), torch.zeros((), device=device), -8, 7)
    kept = fake_quantize(x, *grid, keep=0.3, seed=1) == x
    assert abs(kept.float().mean().item() - 0.3) < 0.01
    assert not torch.equal(kept, fake_quantize(x, *grid, keep=0.3, seed=2) == x)


@pytest.mark.parametrize("mode", MODES)
def test_threads_do_not_change_the_result(mode: str):
    x = torch.randn(50, 64, 53)
    grid = (*parameters(x, 1), -20, 21, 1, *MODES[mode])
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(op(x, *grid))
    torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("shape", [(), (1,)], ids=["scalar", "vector"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32], ids=str)
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
    zero_point = zero_point.float().requires_grad_()
    shape = [1] * x.dim()
    if axis is not None:
        shape[axis] = -1
    upstream = torch.randn_like(x)
    # Nearly half of the values lie outside of this grid.
    fake_quantize(x, scale, zero_point, -8, 7, axis).backward(upstream)
    expected = torch.autograd.grad(
        straight_through(x, scale.view(shape), zero_point.view(shape), -8, 7),
        (x, scale, zero_point),
        upstream,
    )
    torch.testing.assert_close((x.grad, scale.grad, zero_point.grad), expected)


def test_a_float_zero_point_is_rounded_and_learned(device: torch.device):
    x = torch.tensor([-9.0, 0.3, 9.0], device=device)
    scale = torch.tensor(0.5, device=device)
    zero_point = torch.tensor(2.4, device=device, requires_grad=True)
    output = fake_quantize(x, scale, zero_point, -8, 7)
    output.backward(torch.tensor([1.0, 10.0, 100.0], device=device))
    assert output.tolist() == [-5.0, 0.5, 2.5]
    assert zero_point.grad is not None
    assert zero_point.grad.item() == -0.5 * 101


def test_gradient_of_the_scale_alone():
    scale = torch.tensor([0.1], requires_grad=True)
    fake_quantize(torch.randn(10), scale, torch.tensor([0]), -8, 7).sum().backward()
    assert scale.grad is not None
    assert scale.grad.shape == (1,)


# torch's own tracing of gradients, which opcheck runs, reads `.grad` of intermediate tensors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("mode", ["nearest_even", "stochastic", "half_kept"])
@pytest.mark.parametrize("axis", [None, 1], ids=["tensor", "channel"])
def test_opcheck(device: torch.device, axis: int | None, mode: str):
    x = torch.randn(4, 5, device=device, requires_grad=True)
    scale, zero_point = parameters(x, axis)
    learned = (scale.requires_grad_(), zero_point.float().requires_grad_())
    torch.library.opcheck(op, (x, *learned, -8, 7, axis, *MODES[mode]))
