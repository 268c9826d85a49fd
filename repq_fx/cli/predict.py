"""`repq predict`: what a detector finds in images, as a table and drawn."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..analysis.report import (
    Column,
    Columns,
    ImageFormat,
    Protocol,
    Report,
    Row,
    Session,
    decimals,
    print_table,
    write,
)
from ..errors import RepqError
from .model_source import open_detector
from .options import DetectorFile, LongerSide
from .outputs import require_writable

_PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
_COLUMNS: Columns = (
    Column("image", "image"),
    Column("objects", "objects"),
    Column("inference_ms", "ms", decimals(1)),
)


def predict(
    model: DetectorFile,
    images: Annotated[list[Path], typer.Argument(help="Images, videos or folders")],
    save: Annotated[
        Path | None,
        typer.Option(help="Folder for the annotated pictures", show_default="none are drawn"),
    ] = None,
    image_size: LongerSide = None,
    confidence: Annotated[float, typer.Option(help="Show what is at least so certain")] = 0.25,
    json: Annotated[
        Path | None, typer.Option(help="Where a JSON report goes", show_default="nowhere")
    ] = None,
) -> None:  # fmt: skip
    """List the objects that a detector finds, and draw them with --save."""
    if not 0 <= confidence <= 1:
        raise RepqError(f"--confidence must be between 0 and 1, got {confidence}.")
    for path in images:
        if not path.exists():
            raise RepqError(f"there is no image or folder {str(path)!r}.")
    if json is not None:
        require_writable(json, "--json", ".json")
    if save is not None:
        save.mkdir(parents=True, exist_ok=True)
    detector = open_detector(model)
    options: dict[str, Any] = {"conf": confidence}
    if image_size is not None:
        options["imgsz"] = image_size
    rows: list[Row] = []
    objects: list[dict[str, Any]] = []
    for picture, found in _pictures(detector, images, options):
        if save is not None:
            found.save(str(save / picture))
        here = list(_objects(found, picture))
        objects += here
        shown = ", ".join(f"{entry['class']} {entry['confidence']:.2f}" for entry in here)
        rows.append(Row(picture, objects=shown, inference_ms=found.speed["inference"]))
    report = Report(f"{model.name}, confidence from {confidence}", _COLUMNS, rows)
    print_table(report)
    if save is not None:
        typer.echo(f"wrote the pictures to {save}")
    if json is not None:
        image = ImageFormat(height_pixels=image_size, width_pixels=image_size)
        protocol = Protocol(data=", ".join(map(str, images)), image=image)
        session = Session("predict", str(model), protocol, output=save, objects=objects)
        write(replace(report, rows=(), context=session.context()), json)  # Objects say more.
        typer.echo(f"wrote {json}")


def _pictures(
    detector: Any, images: Sequence[Path], options: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """What is found in each picture or frame, by a file name that no other has."""
    sources: dict[str, Path] = {}
    for path in images:
        frames = detector.predict(path, stream=True, verbose=False, **options)
        for index, found in enumerate(frames):
            source = Path(found.path)
            is_picture = source.suffix in _PICTURES
            # The frames of a video all have its name.
            picture = source.name if is_picture else f"{source.name}.{index:05}.jpg"
            if sources.setdefault(picture, source) != source:  # One from another folder.
                picture = f"{source.parent.name}_{picture}"
            yield picture, found


def _objects(found: Any, picture: str) -> Iterator[dict[str, Any]]:
    boxes = found.boxes
    values = zip(boxes.cls.tolist(), boxes.conf.tolist(), boxes.xyxy.tolist(), strict=True)
    for index, confidence, corners in values:
        yield {
            "image": picture,
            "class": found.names[int(index)],
            "confidence": confidence,
            "left_top_right_bottom_pixels": corners,
        }
