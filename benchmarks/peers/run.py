"""Our accuracy beside other tools': ``python -m benchmarks.peers.run [--networks ...]``.

Every tool gets the same merged network and the same calibration images, in its own environment
(`benchmarks.peers.environments`), one after the other; only methods without gradients take part.
Rows of networks and tools that are not asked for stay in the results as they are.
"""

import argparse
import time
from typing import Any

import torch
from torch import Tensor

import repq_fx
from benchmarks.peers.report import add_options, update, workshop
from benchmarks.peers.rows import Workshop, label, measure, measured, reference_outputs
from benchmarks.peers.tasks import TASKS, Task
from benchmarks.peers.tools import TOOLS, WIDTHS, Width
from benchmarks.publish import RESULTS
from repq_fx import PerChannel, Scheme
from repq_fx.analysis.report import Row

OUTPUT = RESULTS / "peers.json"
# A split layer holds two convolutions, so coarse + fine spends more bits than the other tools do.
# Brevitas rounds only what layers read.
_OURS: dict[str, dict[str, Any]] = {
    "default (coarse + fine)": {},
    "one convolution": {"weight": PerChannel()},
    "float elementwise": {"float_elementwise": True},
}


def compare(task: Task, tools: Workshop) -> list[Row]:
    """Ours and every tool's rows."""
    reference = reference_outputs(task)
    rows = [measured("FP32", "merged", "", task.quality(reference))]
    rows += [_ours(task, reference, name, width) for width in WIDTHS for name in _OURS]
    return rows + tools.rows(task, reference)


def _ours(task: Task, reference: list[Tensor], name: str, width: Width) -> Row:
    scheme = Scheme(*width, **_OURS[name])
    start = time.perf_counter()
    quantized = repq_fx.quantize(
        task.model, task.calibration, scheme=scheme, backend="reference", progress=False
    )
    seconds = time.perf_counter() - start
    with torch.inference_mode():
        outputs = [quantized(images) for images in task.images]
    record = {"settings": {"scheme": str(scheme)}, "engine": "reference"}
    fields = measure(task, reference, outputs) | {"seconds": seconds}
    return measured("repq_fx", name, label(width), fields, record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser, TASKS, [tool.name for tool in TOOLS], OUTPUT)
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        parser.error(f"there is no folder {str(arguments.data)!r}; see benchmarks/README.md")
    torch.set_num_threads(1)
    tasks = (TASKS[name](arguments.data) for name in arguments.networks)
    with workshop(arguments, TOOLS, WIDTHS) as tools:
        update(arguments.output, tasks, lambda task: compare(task, tools), WIDTHS)


if __name__ == "__main__":
    main()
