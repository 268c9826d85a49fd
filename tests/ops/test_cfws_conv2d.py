"""The split convolution: exact integers in the reference, one level at most in the kernel."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from repq_fx.backend.int8_layers import runs_on_onednn
from repq_fx.ops import (
    cfws_conv2d,
    cfws_conv2d_reference,
    has_extension,
    pack_coarse,
    pack_fine,
)

needs_kernel = pytest.mark.skipif(
    not (has_extension() and runs_on_onednn()), reason="needs the extension and VNNI"
)


def arguments(
    *, channels=(16, 24), kernel=3, stride=1, padding=1, dilation=1, groups=1, size=9,
    zero_point=114, output_scale=0.05, output=(7, 0, 255), bias=True, batch=2,
):  # fmt: skip
    in_channels, out_channels = channels
    image = torch.randint(0, 256, (batch, in_channels, size, size + 2), dtype=torch.uint8)
    fine = torch.randint(-127, 128, (out_channels, in_channels // groups, kernel, kernel))
    coarse = torch.randint(-127, 128, (out_channels, in_channels // groups, 1, 1))
    # Sums of a few dozen levels whatever the fan-in.
    scale = 0.02 / (127 * fine[0].numel() ** 0.5)
    return [
        image, 0.03, zero_point,
        fine.to(torch.int8), scale * (0.5 + torch.rand(out_channels)),
        coarse.to(torch.int8), 5 * scale * (0.5 + torch.rand(out_channels)),
        torch.randn(out_channels) if bias else None,
        [stride] * 2, [padding] * 2, [dilation] * 2, groups, output_scale, *output,
    ]  # fmt: skip


def packed(args):
    image, scale, zero_point, fine, fine_scale, coarse, *rest = args
    fine = pack_fine(fine, fine_scale, scale, zero_point, *rest[2:6], image.shape)
    return [image, scale, zero_point, fine, fine_scale, pack_coarse(coarse, rest[5]), *rest]


def assert_contract(args):
    result, expected = cfws_conv2d(*packed(args)), cfws_conv2d_reference(*args)
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    if result.dtype == torch.float32:
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
        return
    difference = (result.int() - expected.int()).abs()
    assert difference.numel() == 0 or difference.max() <= 1
    # One element of a small tensor may be more than a thousandth of it.
    assert (difference > 0).sum() <= max(1, difference.numel() // 1000)


@needs_kernel
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 16], ids=["dense", "grouped", "depthwise"])
def test_kernel_meets_the_contract(kernel, stride, dilation, groups):
    args = arguments(
        kernel=kernel, stride=stride, dilation=dilation, groups=groups, size=15,
        channels=(16, 16), padding=dilation * (kernel // 2),
    )  # fmt: skip
    assert_contract(args)


@needs_kernel
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 0},
        {"padding": 3},
        {"channels": (3, 48), "stride": 2},
        {"channels": (5, 7)},
        {"channels": (6, 34), "groups": 2},
        {"channels": (16, 32), "groups": 16},
        {"channels": (17, 17), "groups": 17},
        {"zero_point": 0},
        {"zero_point": 255},
        {"output": (0, 0, 63)},
        {"output": (3, 3, 15)},
        {"output_scale": None},
        {"output_scale": None, "bias": False},
        {"bias": False},
        {"batch": 1, "size": 1},
        {"size": 8},
        {"channels": (192, 192), "size": 14},
    ],
    ids=str,
)
def test_kernel_meets_the_contract_in_corner_cases(options):
    assert_contract(arguments(**options))


@needs_kernel
@given(
    in_channels=st.integers(1, 40), out_channels=st.integers(1, 70), size=st.integers(1, 12),
    kernel=st.sampled_from([1, 3, 5]), stride=st.integers(1, 3), padding=st.integers(0, 3),
    zero_point=st.integers(0, 255), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_kernel_meets_the_contract_everywhere(
    in_channels, out_channels, size, kernel, stride, padding, zero_point, seed
):
    torch.manual_seed(seed)
    padding = max(padding, (kernel - size + 1) // 2)
    args = arguments(
        channels=(in_channels, out_channels), size=size, kernel=kernel, stride=stride,
        padding=padding, zero_point=zero_point,
    )  # fmt: skip
    assert_contract(args)


@needs_kernel
def test_extremes_do_not_overflow():
    args = arguments(channels=(512, 16), zero_point=0)
    args[0].fill_(255)
    args[3].fill_(127)
    args[5].fill_(-127)
    assert_contract(args)


@needs_kernel
def test_any_memory_format_gives_the_same():
    args = packed(arguments(channels=(16, 16)))
    other = [args[0].to(memory_format=torch.channels_last), *args[1:]]
    assert torch.equal(cfws_conv2d(*args), cfws_conv2d(*other))


@needs_kernel
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_the_result(threads):
    args = packed(arguments(channels=(64, 64), size=40))
    before = torch.get_num_threads()
    expected = cfws_conv2d(*args)
    torch.set_num_threads(threads)
    try:
        assert torch.equal(cfws_conv2d(*args), expected)
    finally:
        torch.set_num_threads(before)


def test_reference_is_the_formula():
    args = arguments(output_scale=None)
    image, scale, zero_point, fine, fine_scale, coarse, coarse_scale, bias = args[:8]
    weight = fine.double() * fine_scale.double().reshape(-1, 1, 1, 1)
    weight[:, :, 1:2, 1:2] += coarse.double() * coarse_scale.double().reshape(-1, 1, 1, 1)
    expected = F.conv2d(scale * (image.double() - zero_point), weight, bias.double(), padding=1)
    torch.testing.assert_close(cfws_conv2d_reference(*args), expected.float(), rtol=1e-6, atol=1e-6)


def test_opcheck():
    for options in ({}, {"output_scale": None}, {"stride": 2, "groups": 2}):
        torch.library.opcheck(torch.ops.repq_fx.cfws_conv2d.default, arguments(**options))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: [a[0].float(), *a[1:]], TypeError, "expected uint8 input, got float32"),
        (lambda a: [a[0][0], *a[1:]], ValueError, "expected input of 4 dimensions, got 3"),
        (lambda a: [*a[:3], a[3][:, :, :2], *a[4:]], ValueError, "with a centre, got 2x3"),
    ],
    ids=["dtype", "rank", "even"],
)
@pytest.mark.parametrize("kind", ["reference", "fake"])
def test_bad_input_is_named(change, error, message, kind):
    args = change(arguments())
    if kind == "fake":
        args = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in args]
    with pytest.raises(error, match=message):
        cfws_conv2d(*args)
