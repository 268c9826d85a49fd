"""`repq val`: mean average precision of a detector."""

from pathlib import Path
from typing import Annotated

import typer

from ..analysis.report import (
    MODEL_COLUMNS,
    ImageFormat,
    Protocol,
    Report,
    Row,
    Session,
    print_table,
    write,
)
from ..integrations import ultralytics
from .model_source import open_detector
from .options import DetectorFile, LongerSide
from .outputs import require_writable
from .stages import Stages


def val(
    model: DetectorFile,
    data: Annotated[Path, typer.Option(help="The data set's YAML file")],
    image_size: LongerSide = None,
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
    protocol = Protocol(
        eval_data=f"val split of {data}",
        batch_size=batch_size,
        image=ImageFormat.of_detector(side),
    )
    session = Session("val", str(model), protocol, stage_seconds=stages.seconds)
    report = Report(
        f"val split of {data.name} at {side} px", MODEL_COLUMNS, [row], session.context()
    )
    print_table(report)
    if json is not None:
        write(report, json)
        stages.end(json)
