"""`repq val`: mean average precision of a detector."""

from pathlib import Path
from typing import Annotated

import typer

from ..integrations import ultralytics
from .detector import open_detector
from .report import Row, print_table, write_json


def val(
    model: Annotated[Path, typer.Argument(help="What `repq quantize` wrote, or a .pt file")],
    data: Annotated[Path, typer.Option(help="The data set's YAML file")],
    image_size: Annotated[int | None, typer.Option(help="Longer side in pixels")] = None,
    batch_size: Annotated[int, typer.Option(help="Images per forward pass")] = 16,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON")] = None,
) -> None:
    """Measure a detector on the val split of a data set in YOLO's format."""
    map50_95, map50 = ultralytics.mean_average_precision(
        open_detector(model), data, image_size=image_size, batch=batch_size
    )
    rows = [Row(model.name, map50_95=map50_95, map50=map50, size_bytes=model.stat().st_size)]
    print_table(f"val split of {data.name}", rows)
    if out is not None:
        write_json(out, rows, data=str(data), image_size=image_size)
