import math
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from repq_fx.ops import Rounding, fake_quantize_backward_reference

op = torch.ops.repq_fx.fake_quantize_backward.default
MODES = {  # rounding, keep, seed
    "nearest_even": (Rounding.NEAREST_EVEN, 0.0, 0),
    "half_up": (Rounding.HALF_UP, 0.0, 0),
    "floor": (Rounding.FLOOR, 0.0, 0),
    "stochastic": (Rounding.STOCHASTIC, 0.0, 2**63 - 1),
    "half_kept": (Rounding.NEAREST_EVEN, 0.5, -5),
    "all_kept": (Rounding.FLOOR, 1.0, 3),
}


def parameters(input: Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
    """Scales of 0.02 to 0.12 and zero points of -5 to 5, not integers, that fit `input`."""
    shape = () if axis is None else (input.shape[axis],)
    scale = torch.rand(shape, device=input.device) / 10 + 0.02
    return scale, torch.rand(shape, device=input.device) * 10 - 5


def assert_matches_reference(grad: Tensor, x: Tensor, *settings) -> None:
    """Every gradient, to the last bit: the order of the sums is defined."""
    results = op(grad, x, *settings)
    expected = fake_quantize_backward_reference(grad, x, *settings)
    torch.testing.assert_close(results, expected, rtol=0, atol=0, equal_nan=True)
    assert results[0].stride() == torch.empty_like(x).stride()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_matches_reference(values: Tensor, dtype: torch.dtype, mode: str):
    x = values.to(dtype)
    # 0 * inf is NaN in the gradient of the scale, as it should be.
    for axis in (None, *range(values.dim())):
        grad = torch.randn(x.shape, device=x.device, dtype=dtype)
        assert_matches_reference(grad, x, *parameters(x, axis), -20, 21, axis, *MODES[mode])


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
    assert_matches_reference(torch.randn(shape), x, *parameters(x, axis), -20, 21, axis, *mode)


@pytest.mark.parametrize("channels", [1, 3, 64, 65, 128, 130, 5000], ids=str)
@pytest.mark.parametrize("axis", [None, 0, 1], ids=["tensor", "runs", "interleaved"])
def test_many_blocks_match_reference(device: torch.device, channels: int, axis: int | None):
    shape = (channels, 100_000 // channels) if axis == 0 else (100_000 // channels, channels)
    x, grad = torch.randn(shape, device=device), torch.randn(shape, device=device)
    assert_matches_reference(grad, x, *parameters(x, axis), -8, 7, axis)


def test_sums_are_those_of_float64(device: torch.device):
    x, grad = torch.randn(2, 300_000, device=device).unbind()
    scale, zero_point = torch.tensor(0.1, device=device), torch.tensor(1, device=device)
    _, grad_scale, grad_zero_point = op(grad, x, scale, zero_point, -8, 7)
    scaled = x * scale.reciprocal()
    levels = scaled.round() + 1
    inside = (levels >= -8) & (levels <= 7)
    share = torch.where(inside, scaled.round() - scaled, levels.clamp(-8, 7) - 1) * grad
    outside = torch.where(inside, 0, grad)
    torch.testing.assert_close(grad_scale, share.double().sum().float())
    torch.testing.assert_close(grad_zero_point, -scale * outside.double().sum().float())


@pytest.mark.parametrize("axis", [None, 0, 1], ids=["tensor", "first", "second"])
def test_threads_do_not_change_the_result(axis: int | None):
    x, grad = torch.randn(50, 64, 53), torch.randn(50, 64, 53)
    settings = (*parameters(x, axis), -20, 21, axis)
    threads = torch.get_num_threads()
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(op(grad, x, *settings))
    torch.set_num_threads(threads)
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=0, atol=0)


@pytest.mark.parametrize("axis", [None, 1], ids=["tensor", "channel"])
def test_opcheck(device: torch.device, axis: int | None):
    x = torch.randn(4, 5, device=device)
    torch.library.opcheck(op, (torch.randn_like(x), x, *parameters(x, axis), -8, 7, axis))
