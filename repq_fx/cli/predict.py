"""`repq predict`: what a detector finds in images, as a table and drawn."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ..errors import RepqError
from .detector import open_detector
from .report import wide_console

_PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def predict(
    model: Annotated[Path, typer.Argument(help="What `repq quantize` wrote, or a .pt file")],
    images: Annotated[list[Path], typer.Argument(help="Images, videos or folders")],
    save: Annotated[Path | None, typer.Option(help="Folder for the annotated pictures")] = None,
    image_size: Annotated[int | None, typer.Option(help="Longer side in pixels")] = None,
    confidence: Annotated[float, typer.Option(help="Show what is at least so certain")] = 0.25,
) -> None:
    """List the objects that a detector finds, and draw them with --save."""
    if not 0 <= confidence <= 1:
        raise RepqError(f"--confidence must be between 0 and 1, got {confidence}.")
    for path in images:
        if not path.exists():
            raise RepqError(f"there is no image or folder {str(path)!r}.")
    if save is not None:
        save.mkdir(parents=True, exist_ok=True)
    detector = open_detector(model)
    options: dict[str, Any] = {} if image_size is None else {"imgsz": image_size}
    table = Table(title=f"{model.name}, confidence from {confidence}", title_justify="left")
    for heading in ("image", "objects", "ms"):
        table.add_column(heading, justify="right" if heading == "ms" else "left")
    sources: dict[str, Path] = {}
    for path in images:
        frames = detector.predict(path, stream=True, conf=confidence, verbose=False, **options)
        for index, found in enumerate(frames):
            source = Path(found.path)
            is_picture = source.suffix in _PICTURES
            # The frames of a video all have its name.
            picture = source.name if is_picture else f"{source.name}.{index:05}.jpg"
            if sources.setdefault(picture, source) != source:  # One from another folder.
                picture = f"{source.parent.name}_{picture}"
            if save is not None:
                found.save(str(save / picture))
            table.add_row(picture, _objects(found), f"{found.speed['inference']:.1f}")
    wide_console().print(table)
    if save is not None:
        typer.echo(f"wrote the pictures to {save}")


def _objects(found: Any) -> str:
    boxes = found.boxes
    labels = zip(boxes.cls.tolist(), boxes.conf.tolist(), strict=True)
    return ", ".join(f"{found.names[int(index)]} {score:.2f}" for index, score in labels)
