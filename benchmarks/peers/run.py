"""Our accuracy beside other tools': ``python -m benchmarks.peers.run [--networks ...]``.

Every tool gets the same merged network and the same calibration images, in its own environment
(`benchmarks.peers.environments`), one after the other; only methods without gradients take part.
Rows of networks and tools that are not asked for stay in the results as they are.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

import repq_fx
from benchmarks.peers.environments import DEFAULT_FOLDER, python_of
from benchmarks.peers.job import Job
from benchmarks.peers.tasks import TASKS, Task, similarity
from benchmarks.peers.tools import TOOLS, WIDTHS, Tool, Width
from repq_fx import PerChannel, Scheme
from repq_fx.cli.report import environment, wide_console
from repq_fx.export import write_atomically

RESULTS = Path(__file__).parents[1] / "results" / "peers.json"
_ROOT = Path(__file__).parents[2]
_LIMIT_SECONDS = 600
# A split layer holds two convolutions, so coarse + fine spends more bits than the other tools do.
# Brevitas rounds only what layers read.
_OURS: dict[str, dict[str, Any]] = {
    "default (coarse + fine)": {},
    "one convolution": {"weight": PerChannel()},
    "float elementwise": {"float_elementwise": True},
}
_NUMBERS = (("top1", "top-1 %"), ("psnr_db", "Set5 dB"), ("psnr_set14_db", "Set14 dB"),
            ("agreement", "agrees %"), ("sqnr_db", "SQNR dB"), ("seconds", "seconds"))  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One configuration at one width.

    Attributes:
        fields: What was measured, by the names of `_NUMBERS`; empty where `problem` says why.
        record: Version, settings and engine, as the adapter reports them.
    """

    tool: str
    configuration: str
    width: str
    fields: dict[str, float] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


def compare(task: Task, tools: list[Tool], environments: Path, scratch: Path) -> list[Row]:
    """Ours and every tool's rows; a tool that is absent or fails is a row with the reason."""
    data = scratch / task.name
    task.write(data)
    with torch.no_grad():
        reference = [task.model(images) for images in task.images]
    rows = [Row("FP32", "merged", "", task.quality(reference))]
    rows += [_ours(task, reference, name, width) for width in WIDTHS for name in _OURS]
    rows += [Row(tool.name, "", _label(width), problem=reason)
             for tool in tools for width, reason in tool.not_offered.items()]  # fmt: skip
    jobs = [(tool, name, width) for width in WIDTHS
            for tool in tools for name in tool.configurations.get(width, ())]  # fmt: skip
    for index, (tool, name, width) in enumerate(tqdm(jobs, desc=task.name, unit="job")):
        label = _label(width)
        job = Job(str(scratch / f"{task.name}-{index}"), str(data), task.name, name, *width)
        problem = _run(job, tool, python_of(tool.name, environments))
        if problem:
            rows.append(Row(tool.name, name, label, problem=problem))
            continue
        record = job.result()
        fields = _measure(task, reference, job.outputs()) | {"seconds": record.pop("seconds")}
        rows.append(Row(tool.name, name, label, fields, record))
    return rows


def _label(width: Width) -> str:
    return f"W{width[0]}A{width[1]}"


def _measure(task: Task, reference: list[Tensor], outputs: list[Tensor]) -> dict[str, float]:
    return task.quality(outputs) | similarity(reference, outputs)


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
    fields = _measure(task, reference, outputs) | {"seconds": seconds}
    return Row("repq_fx", name, _label(width), fields, record)


def _run(job: Job, tool: Tool, python: Path) -> str | None:
    """Run one adapter; the reason if it gave no result."""
    if not python.exists():
        return f"no environment: python -m benchmarks.peers.environments {tool.name}"
    job.write()
    command = [str(python), "-m", f"benchmarks.peers.adapters.{tool.name}", job.folder]
    log = Path(job.folder, "log.txt")
    variables = os.environ | {"PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        try:
            subprocess.run(
                command, cwd=job.folder, env=variables, stdout=file, stderr=subprocess.STDOUT,
                timeout=_LIMIT_SECONDS, check=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"stopped after {_LIMIT_SECONDS} s"
        except subprocess.CalledProcessError:
            return _last_line(log)
    return None


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "failed without a word")[:300]


def _networks_in(results: Path) -> dict[str, Any]:
    return json.loads(results.read_text())["networks"] if results.exists() else {}


def _rows_of(network: dict[str, Any] | None, task: Task) -> list[Row]:
    """What was measured before on the same images."""
    if network is None or network["protocol"] != task.protocol:
        return []
    return [Row(**row) for row in network["rows"]]


def print_rows(title: str, rows: list[Row]) -> None:
    """One line for each row, with the columns that something was measured for."""
    columns = [entry for entry in _NUMBERS if any(entry[0] in row.fields for row in rows)]
    table = Table(title=title, title_justify="left")
    for heading in ("width", "tool", "configuration"):
        table.add_column(heading, no_wrap=True)
    for _, heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    if any(row.problem for row in rows):
        table.add_column("problem")
    widths = ["", *map(_label, WIDTHS)]
    for row in sorted(rows, key=lambda row: widths.index(row.width)):
        numbers = (f"{row.fields[key]:.2f}" if key in row.fields else "-" for key, _ in columns)
        problem = [row.problem] if row.problem else []
        table.add_row(row.width, row.tool, row.configuration, *numbers, *problem)
    wide_console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="see README")
    parser.add_argument("--environments", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--networks", nargs="+", choices=TASKS, default=list(TASKS))
    names = [tool.name for tool in TOOLS]
    parser.add_argument("--tools", nargs="*", choices=names, default=names)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--scratch", type=Path, help="keep arrays and logs of every job here")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        parser.error(f"there is no folder {str(arguments.data)!r}; see benchmarks/README.md")
    torch.set_num_threads(1)
    tools = [tool for tool in TOOLS if tool.name in arguments.tools]
    others = {tool.name for tool in TOOLS} - set(arguments.tools)
    networks = _networks_in(arguments.output)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = (arguments.scratch or Path(temporary)).resolve()
        for name in arguments.networks:
            task = TASKS[name](arguments.data)
            rows = compare(task, tools, arguments.environments.expanduser().resolve(), scratch)
            rows += [row for row in _rows_of(networks.get(name), task) if row.tool in others]
            print_rows(f"{name} ({task.protocol})", rows)
            networks[name] = {"protocol": task.protocol, "rows": [asdict(row) for row in rows]}
            content = {"environment": environment(), "networks": networks}
            write_atomically(arguments.output, (json.dumps(content, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
