"""What every comparison does: run each tool's jobs and judge what they give."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.peers.environments import python_of
from benchmarks.peers.job import Job
from benchmarks.peers.steps import milliseconds
from benchmarks.peers.tasks import Task, similarity
from benchmarks.peers.tools import Tool, Width
from repq_fx.analysis.report import Column, Columns, Row, Unshown

_ROOT = Path(__file__).parents[2]


# One configuration at one width.
COLUMNS: Columns = (
    Column("tool", "tool"),
    Column("configuration", "configuration"),
    Column("width", "width"),
    Unshown("fields"),  # What was measured, by the names of `report.NUMBERS`.
    Unshown("record"),  # Version, settings and engine, as the adapter reports them.
    Column("problem", "problem"),
)


def measured(
    tool: str, configuration: str, width: str, fields: dict[str, float],
    record: dict[str, Any] | None = None,
) -> Row:  # fmt: skip
    return Row(
        tool, configuration=configuration, width=width, fields=fields, record=record or {},
        problem=None,
    )  # fmt: skip


def failed(tool: str, configuration: str, width: str, problem: str) -> Row:
    return Row(
        tool, configuration=configuration, width=width, fields={}, record={}, problem=problem
    )


@dataclass(frozen=True)
class Workshop:
    """Which tools take part, where they are installed, and how long one job may take."""

    tools: list[Tool]
    widths: tuple[Width, ...]
    environments: Path
    scratch: Path
    limit_seconds: int = 600

    def rows(self, task: Task, reference: list[Tensor], iterations: int = 0) -> list[Row]:
        """Every tool's rows; a tool that is absent or fails is a row with the reason."""
        data = self.scratch / task.name
        task.write(data)
        rows = [failed(tool.name, "", label(width), reason)
                for tool in self.tools for width, reason in tool.not_offered.items()
                if width in self.widths]  # fmt: skip
        jobs = [(tool, name, width) for width in self.widths
                for tool in self.tools for name in tool.configurations.get(width, ())]  # fmt: skip
        for index, (tool, name, width) in enumerate(tqdm(jobs, desc=task.name, unit="job")):
            folder = str(self.scratch / f"{task.name}-{index}")
            job = Job(folder, str(data), task.name, name, *width, iterations)
            problem = self._run(job, tool)
            if problem:
                rows.append(failed(tool.name, name, label(width), problem))
                continue
            record = job.result()
            fields = measure(task, reference, job.outputs()) | {"seconds": record.pop("seconds")}
            fields |= milliseconds(record["settings"])
            rows.append(measured(tool.name, name, label(width), fields, record))
        return rows

    def _run(self, job: Job, tool: Tool) -> str | None:
        """Run one adapter; the reason if it gave no result."""
        python = python_of(tool.name, self.environments)
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
                    timeout=self.limit_seconds, check=True,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return f"stopped after {self.limit_seconds} s"
            except subprocess.CalledProcessError:
                return _last_line(log)
        return None


def reference_outputs(task: Task) -> list[Tensor]:
    """What the float network gives for the task's images."""
    with torch.no_grad():
        return [task.model(images) for images in task.images]


def label(width: Width) -> str:
    return f"W{width[0]}A{width[1]}"


def measure(task: Task, reference: list[Tensor], outputs: list[Tensor]) -> dict[str, float]:
    return task.quality(outputs) | similarity(reference, outputs)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "failed without a word")[:300]
