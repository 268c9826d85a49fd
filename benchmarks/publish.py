"""Where results go: tables to the terminal, JSON to `results/`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from repq_fx.analysis.report import Columns, Report, Row, print_table, write

RESULTS = Path(__file__).parent / "results"


def publish(name: str | None, report: Report) -> None:
    """Print a report, and write it as ``results/NAME.json`` unless there is no name."""
    print_table(report)
    if name is not None:
        write(report, RESULTS / f"{name}.json")


def protocol_report(protocol: str, columns: Columns, rows: Sequence[Row], **context: Any) -> Report:
    """Rows below how they were measured, which the file says as ``protocol``."""
    return Report(protocol, columns, rows, {"protocol": protocol, **context})
