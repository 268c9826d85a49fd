"""Reports as tables in the terminal."""

from collections.abc import Iterator
from functools import partial

import rich.box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .columns import Column, Remark
from .rows import Report


def print_table(report: Report) -> None:
    """One line for each row, without the columns that nothing was measured for; then remarks.

    Numbers are never cut or broken; 80 characters hold all that `MODEL_COLUMNS` has.
    """
    console = _console()
    # Not the table's own title, which would be broken at the width of the table.
    console.print(f"\n{report.title}\n", style="italic")
    console.print(_table(report))
    for remark in _remarks(report):
        console.print(remark, soft_wrap=True)


def _console() -> Console:
    """Texts are shown as they are; a file or a pipe has no width, and gets lines of 160."""
    plain = partial(Console, markup=False, emoji=False, highlight=False)
    console = plain()
    return console if console.is_terminal else plain(width=160)


def _table(report: Report) -> Table:
    table = Table(box=rich.box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    cells = []
    for column in report.columns:
        values = report.values(column.key)
        if not isinstance(column, Column) or all(value is None for value in values):
            continue
        are_texts = all(value is None or isinstance(value, str) for value in values)
        table.add_column(
            column.heading, justify="left" if are_texts else "right", no_wrap=not are_texts,
            overflow="fold", vertical="bottom",
        )  # fmt: skip
        cells.append([Text("-" if value is None else column.shown(value)) for value in values])
    for line in zip(*cells, strict=True):
        table.add_row(*line)
    return table


def _remarks(report: Report) -> Iterator[str]:
    for row in report.rows:
        for column in report.columns:
            value = row.get(column.key)
            if isinstance(column, Remark) and value is not None and column.shown(value):
                yield f"{row.name}: {column.shown(value)}"
