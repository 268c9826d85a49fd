"""Rows of results: a table for people and JSON beside it for programs."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from ..analysis import LatencyStatistics
from ..export import write_atomically


@dataclass(frozen=True)
class Row:
    """What was measured of one model; None where it was not.

    Attributes:
        name: The model.
        top1: Top-1 accuracy in percent.
        map50_95: Of a detector, mean average precision over IoU 0.5 to 0.95, in percent.
        map50: The same at IoU 0.5.
        agreement: Top-1 agreement with FP32 in percent.
        sqnr_db: SQNR of the output against FP32 in decibels.
        size_bytes: Size of the model file.
        latency: Time of one forward pass.
        seconds: Time to quantize.
    """

    name: str
    top1: float | None = None
    map50_95: float | None = None
    map50: float | None = None
    agreement: float | None = None
    sqnr_db: float | None = None
    size_bytes: int | None = None
    latency: LatencyStatistics | None = None
    seconds: float | None = None


_COLUMNS = (
    ("top1", "top-1 %", "{:.2f}"),
    ("map50_95", "mAP50-95", "{:.2f}"),
    ("map50", "mAP50", "{:.2f}"),
    ("agreement", "agrees %", "{:.2f}"),
    ("sqnr_db", "SQNR dB", "{:.1f}"),
    ("size_bytes", "size KB", "kilobytes"),
    ("latency", "latency (quartiles)", "{}"),
    ("seconds", "quantized in s", "{:.1f}"),
)


def print_table(title: str, rows: Sequence[Row]) -> None:
    """Print one line per row, without the columns that nothing was measured for."""
    columns = [c for c in _COLUMNS if any(getattr(row, c[0]) is not None for row in rows)]
    table = Table(title=title, title_justify="left")
    table.add_column("model", no_wrap=True)
    for _, heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *(_cell(getattr(row, field), form) for field, _, form in columns))
    wide_console().print(table)


def wide_console() -> Console:
    """The terminal; a file or a pipe has no width, and gets lines that are not broken."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def report_beside(out: Path, title: str, rows: Sequence[Any], **context: Any) -> Path:
    """Print `rows` and write them as JSON beside the file `out`, under its name with .json.

    Returns:
        The path of the JSON.
    """
    path = out.with_name(out.name + ".json")
    print_table(title, rows)
    write_json(path, rows, **context)
    return path


def write_json(path: Path, rows: Sequence[Any], **context: Any) -> None:
    """Write `rows` (dataclasses), `context` and the environment of the measurement, atomically."""
    content = {"environment": environment(), **context, "rows": [asdict(row) for row in rows]}
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def environment() -> dict[str, Any]:
    """Machine, threads and versions."""
    return {
        "processor": _processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "-"
    return f"{value / 1000:.0f}" if form == "kilobytes" else form.format(value)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # Not Linux.
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
