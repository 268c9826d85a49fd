"""Reports as files of JSON, which programs read: the names in them stay."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._atomic_file import write_atomically
from .environment import environment
from .json_value import json_value
from .rows import Report


def write(report: Report, path: Path) -> None:
    """Write the context, the environment of the measurement, and the rows; atomically."""
    content = {**report.context, "environment": environment(), "rows": report.entries()}
    write_json(content, path)


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write whatever `json_value` takes, atomically."""
    write_atomically(path, (json.dumps(json_value(content), indent=2) + "\n").encode())
