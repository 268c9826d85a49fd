"""Cost and result of `reparameterize` on timm: `python -m benchmarks.latency.reparameterize`.

Run it from the repository root, on Linux: peak memory is read from /proc.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch import nn

from benchmarks.publish import publish
from repq_fx import RepqError, reparameterize
from repq_fx.analysis.peak_memory import PeakMemory
from repq_fx.analysis.report import Column, Columns, Remark, Report, Row, decimals
from repq_fx.passes.graph.example import relative_error
from tests.real_models import conv_count, parameter_count, randomize, tensors
from tests.whole_models.test_timm import CASES

TARGETS = {"seconds": "3 forwards + 2 s", "peak_extra_memory": "2.5 x parameters"}


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f}"


# Before, by timm's own converter, and after.
COLUMNS: Columns = (
    Column("name", "model"),
    Column("convs_before", "convs"),
    Column("convs_by_timm", "timm"),
    Column("convs_after", "after"),
    Column("parameters_before", "M params", _millions),
    Column("parameters_by_timm", "timm", _millions),
    Column("parameters_after", "after", _millions),
    Column("error", "error", "{:.1e}".format),
    Column("seconds", "s", decimals(1)),
    Remark("failure"),
)


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
    report = Report(
        "Convolutions and parameters: before, by timm's own converter, and after", COLUMNS, rows,
        {"large": cost, "targets": TARGETS},
    )  # fmt: skip
    publish("reparameterize", report)


def measure_cost(name: str) -> dict[str, float | str | bool]:
    """Time and peak memory of one call, beside one FP32 forward at batch 1."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    side = model.default_cfg["input_size"][-1]
    image = torch.randn(1, 3, side, side)
    with torch.no_grad():
        forward = statistics.median(seconds_of(lambda: model(image)) for _ in range(5))
    parameter_bytes = 4 * parameter_count(model)
    memory = PeakMemory()
    seconds = seconds_of(lambda: reparameterize(model, image))
    extra = memory.bytes_above_start()
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


def measure_family(name: str, side: int) -> Row:
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
        return Row(name, **counts, failure=str(error))
    return Row(
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


if __name__ == "__main__":
    main()
