"""Tables and JSON of benchmarks whose columns are not those of `report.rows.Row`."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.table import Table

from repq_fx.analysis.report.rows import wide_console, write_json

RESULTS = Path(__file__).parents[1] / "results"


def report(name: str | None, title: str, rows: Sequence[Any], **context: Any) -> None:
    """Print the dataclass instances `rows`, one column for each field, and write them as JSON.

    Field metadata may hold ``heading`` and ``digits``. Without a `name` nothing is written.
    """
    table = Table(title=title, title_justify="left")
    shown = [f for f in fields(rows[0]) if any(getattr(row, f.name) is not None for row in rows)]
    for index, field in enumerate(shown):
        heading = field.metadata.get("heading", field.name)
        table.add_column(heading, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(getattr(row, f.name), f.metadata.get("digits", 2)) for f in shown))
    wide_console().print(table)
    if name is not None:
        write_json(RESULTS / f"{name}.json", rows, protocol=title, **context)


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
