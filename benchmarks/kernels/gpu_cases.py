"""What `time_gpu.py` times: kernels on a GPU, and what they are compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from repq_fx.ops import (
    fake_quantize,
    fake_quantize_backward_reference,
    fake_quantize_reference,
    histogram,
    histogram_reference,
    quantize,
    quantize_reference,
    search_scale,
    search_scale_reference,
    soft_round,
    soft_round_reference,
    update_histogram,
    update_histogram_reference,
)
from repq_fx.ops.update_histogram import SMALLEST_EXPONENT

BINS, LO, HI = 2048, 0.0, 8.0
OBSERVER_BINS = 8192  # What collectors have.
CHANNELS = 64

Results = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Case:
    """Something to time: its work, the bytes it has to move, and what it must reach."""

    run: Callable[[], object]
    bytes: int
    least_share_of_copy: float | None = None
    least_speedup: tuple[str, float] | None = None  # Over another case.


class Inputs:
    """Activations of `gib` GiB, and the weight of one layer."""

    def __init__(self, gib: float) -> None:
        pixels = int(gib * 2**30 / 4 / CHANNELS / 32)
        self.signed = torch.randn(32, CHANNELS, pixels, device="cuda")
        self.rectified = self.signed.relu()
        self.interleaved = self.signed.mT.contiguous().mT  # As in channels_last.
        self.target = torch.empty_like(self.signed)
        self.bytes = self.signed.numel() * 4
        self.rows = torch.randn(512, 4608, device="cuda")
        self.widest = self.rows.abs().amax(1) / 127


def check_all(inputs: Inputs) -> None:
    """Every kernel against its reference."""
    signed, rows = inputs.signed, inputs.rows
    grids = (inputs.interleaved, *scale_and_zero_point((CHANNELS,)), -128, 127, 1)
    check("fake_quantize", fake_quantize, fake_quantize_reference, grids)
    check("fake_quantize_backward", torch.ops.repq_fx.fake_quantize_backward,
          fake_quantize_backward_reference, (inputs.target.normal_(), *grids))  # fmt: skip
    check("quantize", quantize, quantize_reference, (signed, 0.03, 3, 0, 255))
    check("histogram", histogram, histogram_reference, (inputs.rectified, BINS, LO, HI))
    check("search_scale", search_scale, search_scale_reference,
          (rows, inputs.widest, -127, 127, 2.0))  # fmt: skip
    scales = torch.full((512,), 0.03, device="cuda")
    check("soft_round", soft_round, soft_round_reference,
          (rows, rows, scales, torch.zeros_like(scales), -128, 127, 0, 2.0))  # fmt: skip
    check("update_histogram", counts_after(update_histogram),
          counts_after(update_histogram_reference), (signed,))  # fmt: skip


def cases(inputs: Inputs) -> dict[str, Case]:
    """The candidates."""
    copy = Case(lambda: inputs.target.copy_(inputs.signed), 2 * inputs.bytes)
    return {"copy": copy} | quantize_cases(inputs) | histogram_cases(inputs) | weight_cases(inputs)


def quantize_cases(inputs: Inputs) -> dict[str, Case]:
    signed, interleaved, size = inputs.signed, inputs.interleaved, inputs.bytes
    copy = 2 * size
    scale, zero_point = scale_and_zero_point(())
    scales, zero_points = scale_and_zero_point((CHANNELS,))
    differentiate = torch.ops.repq_fx.fake_quantize_backward
    return {
        "fake_quantize per tensor": Case(
            lambda: fake_quantize(signed, scale, zero_point, -128, 127), copy, 0.85
        ),
        "fake_quantize per channel": Case(
            lambda: fake_quantize(signed, scales, zero_points, -128, 127, 1), copy, 0.85
        ),
        "fake_quantize channels last": Case(
            lambda: fake_quantize(interleaved, scales, zero_points, -128, 127, 1), copy, 0.85
        ),
        "torch fake_quantize per tensor": Case(
            lambda: torch.fake_quantize_per_tensor_affine(signed, scale, zero_point, -128, 127),
            copy,
        ),
        "fake_quantize_backward": Case(
            lambda: differentiate(inputs.target, signed, scale, zero_point, -128, 127), 3 * size
        ),
        "quantize": Case(lambda: quantize(signed, 0.03, 3, 0, 255), size + size // 4, 0.85),
    }


def histogram_cases(inputs: Inputs) -> dict[str, Case]:
    signed, rectified, size = inputs.signed, inputs.rectified, inputs.bytes
    state, states = empty_histogram(), empty_histogram(CHANNELS)
    return {
        "update_histogram": Case(
            lambda: update_histogram(*state, signed), size, 0.65, ("torch histc", 5.0)
        ),
        "update_histogram after ReLU": Case(
            lambda: update_histogram(*state, rectified), size, 0.65, ("torch histc after ReLU", 5.0)
        ),
        "update_histogram per channel": Case(
            lambda: update_histogram(*states, inputs.interleaved, 1), size
        ),
        "histogram": Case(
            lambda: histogram(signed, BINS, -HI, HI), size, 0.65, ("torch histc", 5.0)
        ),
        "histogram after ReLU": Case(
            lambda: histogram(rectified, BINS, LO, HI), size, 0.65, ("torch histc after ReLU", 5.0)
        ),
        "torch histc": Case(lambda: torch.histc(signed, BINS, -HI, HI), size),
        "torch histc after ReLU": Case(lambda: torch.histc(rectified, BINS, LO, HI), size),
    }


def weight_cases(inputs: Inputs) -> dict[str, Case]:
    rows, widest, size = inputs.rows, inputs.widest, inputs.rows.numel() * 4
    return {
        "search_scale": Case(lambda: search_scale(rows, widest, -127, 127, 2.0), size),
        "search_scale per tensor": Case(
            lambda: search_scale(rows.view(1, -1), widest[:1], -127, 127, 2.0), size
        ),
    }


def empty_histogram(*rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """The state of `update_histogram` before any data."""
    return (
        torch.zeros(*rows, OBSERVER_BINS, device="cuda", dtype=torch.int64),
        torch.full(rows, SMALLEST_EXPONENT, device="cuda"),
        torch.zeros(rows, device="cuda", dtype=torch.int64),
    )


def counts_after(update: Callable[..., object]) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """What `update` leaves in an empty histogram."""

    def count(values: Tensor) -> tuple[Tensor, ...]:
        state = empty_histogram()
        update(*state, values)
        return state

    return count


def scale_and_zero_point(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return (
        torch.full(shape, 0.03, device="cuda"),
        torch.full(shape, 3, device="cuda", dtype=torch.int32),
    )


def check(
    name: str,
    kernel: Callable[..., Results],
    reference: Callable[..., Results],
    arguments: tuple[Any, ...],
) -> None:
    """Equality in the sizes that are timed, which the tests are too small for."""
    results, expected = (
        [each] if isinstance(each, Tensor) else list(each)
        for each in (kernel(*arguments), reference(*arguments))
    )
    if not all(map(torch.equal, results, expected)):
        raise AssertionError(f"{name} differs from its reference on {arguments[0].shape}")
