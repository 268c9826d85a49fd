"""Columns: what rows say, under which name in files, and how a table shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..latency import LatencyStatistics

Shown: TypeAlias = Callable[[Any], str]
"""Writes one value for people."""


def decimals(digits: int) -> Shown:
    """Numbers with so many digits behind the point, and all else as it is."""
    return lambda value: f"{value:.{digits}f}" if isinstance(value, float) else str(value)


_two_decimals = decimals(2)


def percent(share: float) -> str:
    """A share of 1 in whole percent."""
    return f"{share:.0%}"


def megabytes(size: float) -> str:
    """Bytes in millions."""
    return f"{size / 1e6:.2f}"


def milliseconds(latency: LatencyStatistics) -> str:
    """Median and quartiles to three digits."""
    low, median, high = map(
        _three_digits, (latency.lower_quartile, latency.median, latency.upper_quartile)
    )
    return f"{median} ({low}-{high})"


def _three_digits(number: float) -> str:
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"


@dataclass(frozen=True)
class Column:
    """What has a column of the table.

    Attributes:
        key: The name in files and in `Row.values`.
        heading: The name above the column, with the unit; it may have several lines.
        shown: Writes a value.
    """

    key: str
    heading: str
    shown: Shown = _two_decimals


@dataclass(frozen=True)
class Remark:
    """What is too long for a column, and said of a row below the table.

    Attributes:
        key: The name in files and in `Row.values`.
        shown: Writes the remark about a value; an empty one is left out.
    """

    key: str
    shown: Shown = str


@dataclass(frozen=True)
class Unshown:
    """What only files have.

    Attributes:
        key: The name in files and in `Row.values`.
    """

    key: str


Columns: TypeAlias = tuple[Column | Remark | Unshown, ...]
"""Of all rows of a report, in the order of files and tables; the first is that of their names."""
