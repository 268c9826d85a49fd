"""Rows: what was measured of one model, layer or method; and reports, which are rows of a kind."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .columns import Columns


@dataclass(frozen=True, init=False)
class Row:
    """What was measured of one thing.

    Attributes:
        name: Of the thing.
        values: What was measured, by the keys of columns; a key that is absent or None was not.

    Example:
        >>> Row("FP32", top1_percent=71.2).get("top1_percent")
        71.2
    """

    name: str
    values: Mapping[str, Any]

    def __init__(self, name: str, /, **values: Any) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "values", values)

    def get(self, key: str) -> Any:
        """The value of a column; None where it was not measured."""
        return self.values.get(key)

    def with_values(self, **values: Any) -> "Row":
        """The same row with these values, new ones or in place of the old."""
        return Row(self.name, **{**self.values, **values})


@dataclass(frozen=True)
class Report:
    """Rows of one kind and what to know of them, for all renderers.

    Attributes:
        title: What the rows are about, and how they were measured.
        columns: Of every row.
        rows: What was measured.
        context: What else a file has, by name: protocol, settings, warnings.

    Raises:
        ValueError: A row has a value that no column is for.
    """

    title: str
    columns: Columns
    rows: Sequence[Row]
    context: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = [column.key for column in self.columns[1:]]
        for row in self.rows:
            for key in row.values:
                if key not in keys:
                    raise ValueError(f"row {row.name!r}: no column {key!r} in {', '.join(keys)}.")

    def values(self, key: str) -> list[Any]:
        """One column: the value of each row, None where it was not measured."""
        if key == self.columns[0].key:
            return [row.name for row in self.rows]
        return [row.get(key) for row in self.rows]

    def entries(self) -> list[dict[str, Any]]:
        """The rows as files have them: a value for every column, dataclasses by their fields."""
        name, *others = (column.key for column in self.columns)
        return [
            {name: row.name, **{key: values.get(key) for key in others}}
            for row, values in ((row, asdict(row)["values"]) for row in self.rows)
        ]
