"""Options that several commands share, and what is refused of their values."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ..errors import RepqError

Weights: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="State dict, .safetensors or .pt", show_default="as MODEL builds it"),
]
LatencyThreads: TypeAlias = Annotated[int, typer.Option(help="Threads for the latency measurement")]
DetectorFile: TypeAlias = Annotated[
    Path, typer.Argument(help="FILE.repq of repq quantize, or a .pt file")
]
LongerSide: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--image-size", "--size", help="Longer side in pixels", show_default="the model's own"
    ),
]


def require_at_least(least: int, option: str, value: int | None) -> None:
    """Refuse a number that is given and too small.

    Raises:
        RepqError: It is.
    """
    if value is not None and value < least:
        raise RepqError(f"{option} must be at least {least}, got {value}.")
