"""The options that every comparison has, its table and its file of results."""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.peers.environments import DEFAULT_FOLDER
from benchmarks.peers.rows import Row, Workshop, label
from benchmarks.peers.tasks import Task
from benchmarks.peers.tools import Tool, Width
from repq_fx.analysis.report.rows import environment, wide_console
from repq_fx.export import write_atomically

NUMBERS = (("top1_percent", "top-1 %"), ("psnr_db", "Set5 dB"), ("psnr_set14_db", "Set14 dB"),
           ("agreement_percent", "agrees %"), ("sqnr_db", "SQNR dB"), ("seconds", "seconds"),
           ("ms_per_step", "ms/step"), ("loop_ms_per_step", "in the loop"))  # fmt: skip


def add_options(
    parser: argparse.ArgumentParser, networks: Iterable[str], tools: Iterable[str], output: Path
) -> None:
    networks, tools = list(networks), list(tools)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="see README")
    parser.add_argument("--environments", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--networks", nargs="+", choices=networks, default=networks)
    parser.add_argument("--tools", nargs="*", choices=tools, default=tools)
    parser.add_argument("--output", type=Path, default=output)
    parser.add_argument("--scratch", type=Path, help="keep arrays and logs of every job here")


@contextmanager
def workshop(
    arguments: argparse.Namespace, tools: Iterable[Tool], widths: tuple[Width, ...],
    limit_seconds: int = 600,
) -> Iterator[Workshop]:  # fmt: skip
    """Where the chosen tools work, by the options of `add_options`."""
    chosen = [tool for tool in tools if tool.name in arguments.tools]
    environments = arguments.environments.expanduser().resolve()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = (arguments.scratch or Path(temporary)).resolve()
        yield Workshop(chosen, widths, environments, scratch, limit_seconds)


def update(
    output: Path, tasks: Iterable[Task], compare: Callable[[Task], list[Row]],
    widths: tuple[Width, ...],
) -> None:  # fmt: skip
    """Print and write the rows of each task; those of tools and widths without new ones stay."""
    networks = json.loads(output.read_text())["networks"] if output.exists() else {}
    for task in tasks:
        rows = compare(task)
        new = {(row.tool, row.width) for row in rows}
        old = _rows_of(networks.get(task.name), task)
        rows += [row for row in old if (row.tool, row.width) not in new]
        print_rows(f"{task.name} ({task.protocol})", rows, widths)
        networks[task.name] = {"protocol": task.protocol, "rows": [asdict(row) for row in rows]}
        content = {"environment": environment(), "networks": networks}
        write_atomically(output, (json.dumps(content, indent=2) + "\n").encode())


def _rows_of(network: dict[str, Any] | None, task: Task) -> list[Row]:
    """What was measured before on the same images."""
    if network is None or network["protocol"] != task.protocol:
        return []
    return [Row(**row) for row in network["rows"]]


def print_rows(title: str, rows: list[Row], widths: tuple[Width, ...]) -> None:
    """One line for each row, with the columns that something was measured for."""
    columns = [entry for entry in NUMBERS if any(entry[0] in row.fields for row in rows)]
    table = Table(title=title, title_justify="left")
    for heading in ("width", "tool", "configuration"):
        table.add_column(heading, no_wrap=True)
    for _, heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    if any(row.problem for row in rows):
        table.add_column("problem")
    order = ["", *map(label, widths)]
    for row in sorted(rows, key=lambda row: order.index(row.width)):
        numbers = (f"{row.fields[key]:.2f}" if key in row.fields else "-" for key, _ in columns)
        problem = [row.problem] if row.problem else []
        table.add_row(row.width, row.tool, row.configuration, *numbers, *problem)
    wide_console().print(table)
