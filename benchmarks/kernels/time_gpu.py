"""Kernels on a GPU beside a copy of the same memory: `python time_gpu.py RESULTS.json [--gib N]`.

All candidates take turns, each between two CUDA events; the medians stand in the table. Bandwidth
counts what a kernel has to read and write, once.
"""

import argparse
import json
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
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
ROUNDS = 31

Results = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Case:
    """Something to time: its work, the bytes it has to move, and what it must reach."""

    run: Callable[[], object]
    bytes: int
    least_share_of_copy: float | None = None
    least_speedup: tuple[str, float] | None = None  # Over another case.


def cases(gib: float) -> dict[str, Case]:
    """The candidates, on `gib` GiB of activations and on the weight of one layer."""
    pixels = int(gib * 2**30 / 4 / CHANNELS / 32)
    signed = torch.randn(32, CHANNELS, pixels, device="cuda")
    rectified = signed.relu()
    interleaved = signed.mT.contiguous().mT  # As in channels_last.
    target = torch.empty_like(signed)
    scale, zero_point = scale_and_zero_point(())
    scales, zero_points = scale_and_zero_point((CHANNELS,))
    rows = torch.randn(512, 4608, device="cuda")
    widest = rows.abs().amax(1) / 127
    state = empty_histogram()
    states = empty_histogram(CHANNELS)
    differentiate = torch.ops.repq_fx.fake_quantize_backward
    row_scales = torch.full((512,), 0.03, device="cuda")

    grids = (interleaved, scales, zero_points, -128, 127, 1)
    check("fake_quantize", fake_quantize, fake_quantize_reference, grids)
    check("fake_quantize_backward", differentiate, fake_quantize_backward_reference,
          (target.normal_(), *grids))  # fmt: skip
    check("quantize", quantize, quantize_reference, (signed, 0.03, 3, 0, 255))
    check("histogram", histogram, histogram_reference, (rectified, BINS, LO, HI))
    check("search_scale", search_scale, search_scale_reference, (rows, widest, -127, 127, 2.0))
    check("soft_round", soft_round, soft_round_reference,
          (rows, rows, row_scales, torch.zeros_like(row_scales), -128, 127, 0, 2.0))  # fmt: skip
    check("update_histogram", counts_after(update_histogram),
          counts_after(update_histogram_reference), (signed,))  # fmt: skip

    size = signed.numel() * 4
    copy = 2 * size
    return {
        "copy": Case(lambda: target.copy_(signed), copy),
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
            lambda: differentiate(target, signed, scale, zero_point, -128, 127), 3 * size
        ),
        "quantize": Case(lambda: quantize(signed, 0.03, 3, 0, 255), size + size // 4, 0.85),
        "update_histogram": Case(
            lambda: update_histogram(*state, signed), size, 0.65, ("torch histc", 5.0)
        ),
        "update_histogram after ReLU": Case(
            lambda: update_histogram(*state, rectified), size, 0.65, ("torch histc after ReLU", 5.0)
        ),
        "update_histogram per channel": Case(
            lambda: update_histogram(*states, interleaved, 1), size
        ),
        "histogram": Case(
            lambda: histogram(signed, BINS, -HI, HI), size, 0.65, ("torch histc", 5.0)
        ),
        "histogram after ReLU": Case(
            lambda: histogram(rectified, BINS, LO, HI), size, 0.65, ("torch histc after ReLU", 5.0)
        ),
        "torch histc": Case(lambda: torch.histc(signed, BINS, -HI, HI), size),
        "torch histc after ReLU": Case(lambda: torch.histc(rectified, BINS, LO, HI), size),
        "search_scale": Case(lambda: search_scale(rows, widest, -127, 127, 2.0), rows.numel() * 4),
        "search_scale per tensor": Case(
            lambda: search_scale(rows.view(1, -1), widest[:1], -127, 127, 2.0), rows.numel() * 4
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


def measure(candidates: dict[str, Case]) -> dict[str, list[float]]:
    """Milliseconds of each round, after three that do not count."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(ROUNDS + 3):
        for name, case in candidates.items():
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            case.run()
            stop.record()
            stop.synchronize()
            times[name].append(start.elapsed_time(stop))
    return {name: values[3:] for name, values in times.items()}


@dataclass(frozen=True)
class Row:
    """What was measured of one case."""

    median_ms: float
    spread_ms: float  # Between the quartiles.
    gigabytes_per_second: float
    share_of_copy: float
    speedup: float | None  # Over what the case is compared with.
    met: bool | None  # Whether it reached its targets; None without any.


def summarize(candidates: dict[str, Case], times: dict[str, list[float]]) -> dict[str, Row]:
    """Compare the medians with the copy and with the targets."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    copied = candidates["copy"].bytes / medians["copy"]
    rows = {}
    for name, case in candidates.items():
        first, _, third = statistics.quantiles(times[name], n=4)
        share = case.bytes / medians[name] / copied
        met, speedup = [], None
        if case.least_share_of_copy is not None:
            met.append(share >= case.least_share_of_copy)
        if case.least_speedup is not None:
            other, least = case.least_speedup
            speedup = medians[other] / medians[name]
            met.append(speedup >= least)
        bandwidth = case.bytes / medians[name] / 1e6
        rows[name] = Row(
            medians[name], third - first, bandwidth, share, speedup, all(met) if met else None
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--gib", type=float, default=1.0)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    candidates = cases(arguments.gib)
    rows = summarize(candidates, measure(candidates))
    words = {None: "", True: "met", False: "MISSED"}
    print(f"{'':32}{'ms':>9}{'+-':>8}{'GB/s':>8}{'of copy':>9}{'speedup':>9}")
    for name, row in rows.items():
        speedup = "" if row.speedup is None else f"{row.speedup:.1f}x"
        print(
            f"{name:32}{row.median_ms:9.3f}{row.spread_ms:8.3f}{row.gigabytes_per_second:8.0f}"
            f"{row.share_of_copy:9.0%}{speedup:>9}  {words[row.met]}"
        )
    report = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "gib": arguments.gib,
        "rounds": ROUNDS,
        "rows": {name: asdict(row) for name, row in rows.items()},
    }
    arguments.results.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
