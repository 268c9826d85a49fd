"""Gradient-based rounding beside other tools': ``python -m benchmarks.peers.reconstruction``.

As `benchmarks.peers.run`, with as many gradient steps per layer or block for every tool, more
calibration images, and none of them among those that are evaluated. Rows of networks, tools and
widths that are not asked for stay in the results; another number of steps starts them anew.
"""

import argparse
import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

import repq_fx
from benchmarks.peers.report import add_options, update, workshop
from benchmarks.peers.rows import Workshop, failed, label, measure, measured, reference_outputs
from benchmarks.peers.steps import count_steps, milliseconds
from benchmarks.peers.tasks import RECONSTRUCTION_TASKS, Task
from benchmarks.peers.tools import RECONSTRUCTION_TOOLS, RECONSTRUCTION_WIDTHS, Width
from benchmarks.publish import RESULTS
from repq_fx import PerChannel, Scheme
from repq_fx.analysis.report import Row

OUTPUT = RESULTS / "peers_reconstruction.json"


@dataclass(frozen=True)
class Ours:
    """One of our configurations.

    Attributes:
        method: The class of `repq_fx` that reconstructs; none for calibration alone.
        scheme: Arguments of `repq_fx.Scheme` beside the bits.
    """

    method: str | None = None
    scheme: dict[str, Any] = field(default_factory=dict)


# The other tools have one convolution for each layer, so they compare with the rows that say so.
_ONE = {"weight": PerChannel()}
OURS: dict[str, Ours] = {
    "default (coarse + fine)": Ours(),
    "one convolution": Ours(scheme=_ONE),
    "AdaRound, one convolution": Ours("AdaRound", _ONE),
    "BRECQ, one convolution": Ours("BRECQ", _ONE),
    "QDrop, one convolution": Ours("QDrop", _ONE),
    "RepAPQ": Ours("RepAPQ"),
}


def compare(task: Task, tools: Workshop, iterations: int, *, ours: bool) -> list[Row]:
    """Every tool's rows and, if asked for, ours."""
    reference = reference_outputs(task)
    rows = [measured("FP32", "merged", "", task.quality(reference))]
    if ours:
        pairs = [(width, name) for width in tools.widths for name in OURS]
        rows += [_ours(task, reference, name, width, iterations) for width, name in pairs]
    return rows + tools.rows(task, reference, iterations)


def _ours(task: Task, reference: list[Tensor], name: str, width: Width, iterations: int) -> Row:
    ours = OURS[name]
    scheme = Scheme(*width, **ours.scheme)
    options: dict[str, Any] = {}
    if ours.method:
        # By name, because the classes are younger than this benchmark.
        method = getattr(repq_fx, ours.method, None)
        if method is None:
            return failed("repq_fx", name, label(width), f"no repq_fx.{ours.method}")
        options["reconstruction"] = method(iterations=iterations)
    start = time.perf_counter()
    with count_steps() as steps:  # Calibration counts in ms_per_step, not in that of the loop.
        quantized = repq_fx.quantize(
            task.model, task.calibration, scheme=scheme, backend="reference", progress=False,
            **options,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    with torch.inference_mode():
        outputs = [quantized(images) for images in task.images]
    settings = {name: str(value) for name, value in {"scheme": scheme, **options}.items()}
    if steps["steps"]:
        settings |= steps
    record = {"settings": settings, "engine": "reference"}
    fields = measure(task, reference, outputs) | {"seconds": seconds} | milliseconds(steps)
    return measured("repq_fx", name, label(width), fields, record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = ["repq_fx", *(tool.name for tool in RECONSTRUCTION_TOOLS)]
    add_options(parser, RECONSTRUCTION_TASKS, names, OUTPUT)
    parser.add_argument("--iterations", type=int, default=500, help="gradient steps per block")
    widths = {label(width): width for width in RECONSTRUCTION_WIDTHS}
    parser.add_argument("--widths", nargs="+", choices=widths, default=list(widths))
    parser.add_argument("--limit-hours", type=float, default=6, help="then a job is stopped")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        parser.error(f"there is no folder {str(arguments.data)!r}; see benchmarks/README.md")
    torch.set_num_threads(1)
    iterations = arguments.iterations
    made = (RECONSTRUCTION_TASKS[name](arguments.data) for name in arguments.networks)
    tasks = (replace(task, protocol=f"{task.protocol}; {iterations} steps") for task in made)
    ours = "repq_fx" in arguments.tools
    limit = int(3600 * arguments.limit_hours)
    chosen = tuple(widths[name] for name in arguments.widths)
    with workshop(arguments, RECONSTRUCTION_TOOLS, chosen, limit) as tools:
        update(
            arguments.output, tasks,
            lambda task: compare(task, tools, iterations, ours=ours), RECONSTRUCTION_WIDTHS,
        )  # fmt: skip


if __name__ == "__main__":
    main()
