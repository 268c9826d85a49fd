"""`repq val`: mean average precision of a detector."""

from pathlib import Path
from typing import Annotated

import typer

from ..analysis.report.rows import Protocol, Report, Row, print_table
from ..integrations import ultralytics
from .detector import image_format, open_detector
from .outputs import require_writable
from .stages import Stages


def val(
    model: Annotated[Path, typer.Argument(help="FILE.repq of repq quantize, or a .pt file")],
    data: Annotated[Path, typer.Option(help="The data set's YAML file")],
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", "--size", help="Longer side in pixels",
                     show_default="the model's own"),
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "--batch", help="Images per forward pass")
    ] = 16,
    json: Annotated[
        Path | None,
        typer.Option("--json", "--out", help="Where a JSON report goes", show_default="nowhere"),
    ] = None,
) -> None:  # fmt: skip
    """Measure a detector on the val split of a data set in YOLO's format."""
    if json is not None:
        require_writable(json, "--json", ".json")
    stages = Stages()
    detector = open_detector(model)
    side = ultralytics.image_size(detector, image_size)
    ultralytics.split_folders(detector, data)
    with stages.stage("evaluate", f"evaluate the val split of {data.name}"):
        map50_95, map50 = ultralytics.mean_average_precision(
            detector, data, image_size=side, batch=batch_size
        )
    row = Row(model.name, map50_95_percent=map50_95, map50_percent=map50,
              size_bytes=model.stat().st_size)  # fmt: skip
    print_table(f"val split of {data.name} at {side} px", [row])
    if json is not None:
        protocol = Protocol(
            eval_data=f"val split of {data}", batch_size=batch_size, image=image_format(side)
        )
        Report("val", str(model), protocol, [row], stage_seconds=stages.seconds).write(json)
        stages.end(json)
