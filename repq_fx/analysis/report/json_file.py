"""Reports as files of JSON, which programs read: the names in them stay."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..._atomic_file import write_atomically
from .environment import environment
from .rows import Report


def write(report: Report, path: Path) -> None:
    """Write the context, the environment of the measurement, and the rows; atomically."""
    content = {**report.context, "environment": environment(), "rows": report.entries()}
    write_json(content, path)


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write whatever `json_value` takes, atomically."""
    write_atomically(path, (json.dumps(json_value(content), indent=2) + "\n").encode())


def json_value(value: Any) -> Any:
    """Numbers, truth values, texts and None as they are; the rest by what it consists of.

    A dataclass becomes an object with its ``type`` and fields, a number that is not finite null
    (JSON has none), and of what has no form of its own, such as a path, there is its text.
    """
    if isinstance(value, Enum):
        return json_value(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_value(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set):
        return [json_value(entry) for entry in value]
    if is_dataclass(value) and not isinstance(value, type):
        entries = {entry.name: json_value(getattr(value, entry.name)) for entry in fields(value)}
        return {"type": type(value).__name__, **entries}
    if isinstance(value, re.Pattern):
        return value.pattern
    return value.__qualname__ if isinstance(value, type) else str(value)
