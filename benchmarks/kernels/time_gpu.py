"""Kernels on a GPU beside a copy of the same memory: `python time_gpu.py RESULTS.json [--gib N]`.

All candidates take turns, each between two CUDA events; the medians stand in the table. Bandwidth
counts what a kernel has to read and write, once.
"""

import argparse
import json
import platform
import statistics
from pathlib import Path

import torch

from benchmarks.kernels.gpu_cases import Case, Inputs, cases, check_all
from repq_fx.analysis.report import Column, Columns, Report, Row, decimals, percent, print_table

ROUNDS = 31


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


COLUMNS: Columns = (
    Column("name", "kernel"),
    Column("median_ms", "ms", decimals(3)),
    Column("spread_ms", "+-", decimals(3)),  # Between the quartiles.
    Column("gigabytes_per_second", "GB/s", decimals(0)),
    Column("share_of_copy", "of copy", percent),
    Column("speedup", "speedup", decimals(1)),  # Over what the case is compared with.
    Column("met", "target", {True: "met", False: "MISSED"}.__getitem__),  # None without any.
)


def summarize(candidates: dict[str, Case], times: dict[str, list[float]]) -> list[Row]:
    """Compare the medians with the copy and with the targets."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    copied = candidates["copy"].bytes / medians["copy"]
    rows = []
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
        rows.append(Row(
            name, median_ms=medians[name], spread_ms=third - first, gigabytes_per_second=bandwidth,
            share_of_copy=share, speedup=speedup, met=all(met) if met else None,
        ))  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--gib", type=float, default=1.0)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    inputs = Inputs(arguments.gib)
    check_all(inputs)
    candidates = cases(inputs)
    rows = summarize(candidates, measure(candidates))
    report = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "gib": arguments.gib,
        "rounds": ROUNDS,
        "rows": {row.name: row.values for row in rows},
    }
    arguments.results.write_text(json.dumps(report, indent=2) + "\n")
    print_table(Report(f"{torch.cuda.get_device_name()}, {arguments.gib} GiB", COLUMNS, rows))


if __name__ == "__main__":
    main()
