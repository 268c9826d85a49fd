"""Rows of one latency comparison, and the table of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from ..analysis import LatencyStatistics
from .report import wide_console


@dataclass(frozen=True)
class LatencyRow:
    """One model in one runtime.

    Attributes:
        name: The runtime and its precision.
        latency: Time of one forward pass; None where `problem` says why there is none.
        speedup: Median of the baseline over this one's; None where one of them is missing.
        problem: What kept it from being timed.
    """

    name: str
    latency: LatencyStatistics | None = None
    speedup: float | None = None
    problem: str | None = None


def latency_rows(
    names: Iterable[str],
    latency: Mapping[str, LatencyStatistics],
    problems: Mapping[str, str],
    *,
    baseline: str,
) -> list[LatencyRow]:
    """One row for each of `names`, timed or not, with the speed-up over `baseline`."""
    rows = []
    for name in names:
        measured, reference = latency.get(name), latency.get(baseline)
        speedup = reference.median / measured.median if reference and measured else None
        rows.append(LatencyRow(name, measured, speedup, problems.get(name)))
    return rows


def print_latency(title: str, rows: Sequence[LatencyRow]) -> None:
    """Print one line per row; a reason stands where the latency would."""
    table = Table(title=title, title_justify="left")
    table.add_column("model", no_wrap=True)
    table.add_column("latency (quartiles)", justify="right", overflow="fold")
    table.add_column("speed-up", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            str(row.latency) if row.latency else row.problem,
            f"{row.speedup:.2f}" if row.speedup else "-",
        )
    wide_console().print(table)
