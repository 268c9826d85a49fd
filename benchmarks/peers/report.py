"""The options that every comparison has, its table and its file of results."""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import DEFAULT_FOLDER
from benchmarks.peers.rows import COLUMNS, Workshop, label
from benchmarks.peers.tasks import Task
from benchmarks.peers.tools import Tool, Width
from repq_fx.analysis.report import (
    Column,
    Columns,
    Report,
    Row,
    environment,
    print_table,
    write_json,
)

NUMBERS = (
    Column("top1_percent", "top-1\n%"),
    Column("psnr_db", "Set5\ndB"),
    Column("psnr_set14_db", "Set14\ndB"),
    Column("agreement_percent", "agrees\n%"),
    Column("sqnr_db", "SQNR\ndB"),
    Column("seconds", "seconds"),
    Column("ms_per_step", "ms a\nstep"),
    Column("loop_ms_per_step", "in the\nloop"),
)
_TABLE_COLUMNS: Columns = (
    Column("width", "width"),
    Column("tool", "tool"),
    Column("configuration", "configuration"),
    *NUMBERS,
    Column("problem", "problem"),
)


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
        new = {(row.name, row.get("width")) for row in rows}
        old = _rows_of(networks.get(task.name), task)
        rows += [row for row in old if (row.name, row.get("width")) not in new]
        title = f"{task.name} ({task.protocol})"
        print_table(table_of(title, rows, widths))
        entries = Report(title, COLUMNS, rows).entries()
        networks[task.name] = {"protocol": task.protocol, "rows": entries}
        write_json({"environment": environment(), "networks": networks}, output)


def _rows_of(network: dict[str, Any] | None, task: Task) -> list[Row]:
    """What was measured before on the same images."""
    if network is None or network["protocol"] != task.protocol:
        return []
    return [Row(entry.pop("tool"), **entry) for entry in network["rows"]]


def table_of(title: str, rows: Iterable[Row], widths: tuple[Width, ...]) -> Report:
    """One line for each row, with a column for each number that was measured."""
    order = ["", *map(label, widths)]
    shown = [
        Row(
            row.get("width"), tool=row.name, configuration=row.get("configuration"),
            **row.get("fields"), problem=row.get("problem"),
        )
        for row in sorted(rows, key=lambda row: order.index(row.get("width")))
    ]  # fmt: skip
    return Report(title, _TABLE_COLUMNS, shown)
