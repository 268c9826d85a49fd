"""Cost and result of `reparameterize` on timm: `python -m benchmarks.latency.reparameterize`.

Run it from the repository root, on Linux: peak memory is read from /proc.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from repq_fx import RepqError, reparameterize
from repq_fx.analysis.report.rows import write_json
from repq_fx.passes.graph.agreement import relative_error
from tests.real_models import conv_count, parameter_count, randomize, tensors
from tests.test_timm_models import CASES

RESULTS = Path(__file__).parents[1] / "results"
TARGETS = {"seconds": "3 forwards + 2 s", "peak_extra_memory": "2.5 x parameters"}


@dataclass(frozen=True)
class Family:
    """What became of one model; None where it failed, for the reason in `failure`."""

    name: str
    convs_before: int
    convs_by_timm: int
    convs_after: int | None = None
    parameters_before: int = 0
    parameters_by_timm: int = 0
    parameters_after: int | None = None
    error: float | None = None
    seconds: float | None = None
    failure: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="fastvit_mci4", help="the large one")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # First, while the process is small: memory that was freed before would hide a peak.
    cost = measure_cost(arguments.model)
    print(f"{arguments.model}: {cost} (targets: {TARGETS})")
    rows = []
    for case in CASES:
        rows.append(measure_family(case.name, case.side))
        print(rows[-1])
    print_table(rows)
    write_json(RESULTS / "reparameterize.json", rows, large=cost, targets=TARGETS)


def measure_cost(name: str) -> dict[str, float | str | bool]:
    """Time and peak memory of one call, beside one FP32 forward at batch 1."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    side = model.default_cfg["input_size"][-1]
    image = torch.randn(1, 3, side, side)
    with torch.no_grad():
        forward = statistics.median(seconds_of(lambda: model(image)) for _ in range(5))
    parameter_bytes = 4 * parameter_count(model)
    Path("/proc/self/clear_refs").write_text("5")  # Resets the peak to the present.
    before = resident_bytes("VmRSS")
    seconds = seconds_of(lambda: reparameterize(model, image))
    extra = resident_bytes("VmHWM") - before
    return {
        "model": name,
        "side": side,
        "parameter_megabytes": parameter_bytes / 1e6,
        "forward_seconds": forward,
        "seconds": seconds,
        "peak_extra_megabytes": extra / 1e6,
        "peak_extra_over_parameters": extra / parameter_bytes,
        "in_time": seconds <= 3 * forward + 2,
        "in_memory": extra <= 2.5 * parameter_bytes,
    }


def seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def resident_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def measure_family(name: str, side: int) -> Family:
    torch.manual_seed(0)
    model = randomize(timm.create_model(name).eval(), (8, 3, side, side))
    by_timm = timm.utils.reparameterize_model(model)
    counts = {
        "convs_before": conv_count(model),
        "convs_by_timm": conv_count(by_timm),
        "parameters_before": parameter_count(model),
        "parameters_by_timm": parameter_count(by_timm),
    }
    image = torch.randn(2, 3, side, side)
    start = time.perf_counter()
    try:
        merged = reparameterize(model, image)
    except RepqError as error:
        return Family(name, **counts, failure=str(error))
    return Family(
        name,
        **counts,
        convs_after=conv_count(merged),
        parameters_after=parameter_count(merged),
        seconds=time.perf_counter() - start,
        error=max(error_on(model, merged, sample) for sample in (image, torch.randn_like(image))),
    )


@torch.no_grad()
def error_on(model: nn.Module, merged: nn.Module, image: torch.Tensor) -> float:
    expected, actual = (tensors(m(image)) for m in (copy.deepcopy(model), merged))
    return max(relative_error(e, a) for e, a in zip(expected, actual, strict=True))


def print_table(rows: list[Family]) -> None:
    table = Table(title="Convolutions and parameters before, after and by timm's own converter")
    for heading in ("model", "convs", "after", "timm", "M params", "after", "timm", "error", "s"):
        justify = "left" if heading == "model" else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            *(str(n) for n in (row.convs_before, row.convs_after or "-", row.convs_by_timm)),
            *(
                "-" if n is None else f"{n / 1e6:.2f}"
                for n in (row.parameters_before, row.parameters_after, row.parameters_by_timm)
            ),
            "failed" if row.error is None else f"{row.error:.1e}",
            "-" if row.seconds is None else f"{row.seconds:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
