"""Images and mAP of a data set, as ultralytics itself reads it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import RepqError

_READING_ERRORS = (
    AssertionError, OSError, SyntaxError, TypeError, ValueError, KeyError, RuntimeError,
)  # fmt: skip


def calibration_images(
    yolo: Any, data: str | Path, *, split: str, count: int, image_size: int, batch: int
) -> list[Tensor]:
    """The first `count` images of a split, as they are for validation, but squares all.

    Returns:
        Float batches ``[batch, 3, image_size, image_size]`` between 0 and 1.

    Raises:
        RepqError: The data set cannot be read, has no such images, or other classes than the model.
    """
    found: list[Tensor] = []
    with _reader(yolo, data, split, image_size, batch) as (validator, loader):
        for entry in loader:
            missing = count - sum(len(images) for images in found)
            if missing <= 0:
                break
            found.append(validator.preprocess(entry)["img"][:missing])
    if not found:
        raise RepqError(f"there are no {split!r} images in {str(data)!r}.")
    return found


def split_sizes(yolo: Any, data: str | Path) -> dict[str, int]:
    """How many images the ``train`` and the ``val`` split of a data set have.

    Raises:
        RepqError: The data set cannot be read, or has other classes than the model.
    """
    sizes = {}
    for split in ("train", "val"):
        with _reader(yolo, data, split, int(max(yolo.model.stride)), 1) as (_, loader):
            sizes[split] = len(loader.dataset)
    return sizes


@contextmanager
def _reader(
    yolo: Any, data: str | Path, split: str, image_size: int, batch: int
) -> Iterator[tuple[Any, Any]]:
    """A validator of the repository's and its loader of a split; what they raise is a RepqError."""
    arguments = {
        **yolo.overrides, "data": str(data), "split": split, "imgsz": image_size, "batch": batch,
        "rect": False, "workers": 0, "plots": False, "mode": "val", "fraction": 1.0,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        try:
            validator = yolo._smart_load("validator")(save_dir=Path(folder), args=arguments)
            validator.data = _described(yolo, data, split)
            validator.device = torch.device("cpu")
            validator.stride = int(max(yolo.model.stride))
            yield validator, validator.get_dataloader(validator.data[split], batch)
        except _READING_ERRORS as error:
            raise _unreadable(data, split, error) from error


def mean_average_precision(
    yolo: Any, data: str | Path, *, image_size: int | None = None, batch: int = 16
) -> tuple[float, float]:
    """mAP50-95 and mAP50 of the boxes on the ``val`` split, in percent.

    Args:
        yolo: A float or quantized model.
        data: The data set's YAML file.
        image_size: As ``imgsz`` of ``yolo.val``; by default the one it was trained with.
        batch: Images in one forward pass.

    Raises:
        RepqError: The data set cannot be read, or has other classes than the model.
    """
    sizes = {} if image_size is None else {"imgsz": image_size}
    with tempfile.TemporaryDirectory() as folder:
        try:
            _described(yolo, data, "val")
            metrics = yolo.val(
                data=str(data), batch=batch, split="val", plots=False, verbose=False,
                project=folder, **sizes,
            )  # fmt: skip
        except _READING_ERRORS as error:
            raise _unreadable(data, "val", error) from error
    return 100.0 * float(metrics.box.map), 100.0 * float(metrics.box.map50)


def split_folders(yolo: Any, data: str | Path) -> dict[str, Any]:
    """Where a data set has the images of its ``train`` and ``val`` split.

    Raises:
        RepqError: The data set cannot be read, or has other classes than the model.
    """
    found = {}
    for split in ("train", "val"):
        try:
            found[split] = _described(yolo, data, split)[split]
        except _READING_ERRORS as error:
            raise _unreadable(data, split, error) from error
    return found


def _unreadable(data: str | Path, split: str, error: Exception) -> RepqError:
    reason = " ".join(str(error).split())  # Theirs may have several lines.
    return RepqError(f"cannot read the {split!r} images of {str(data)!r}: {reason}")


def _described(yolo: Any, data: str | Path, split: str) -> dict[str, Any]:
    from ultralytics.data.utils import check_det_dataset

    if Path(data).is_dir() and not any(Path(data).glob("*.y*ml")):
        raise RepqError(
            f"a detector's data is the YAML file of a data set in YOLO's format, with images and "
            f"labels; {str(data)!r} is a folder without one."
        )
    described: dict[str, Any] = check_det_dataset(str(data), split=split)
    classes = len(yolo.names)
    if described["nc"] != classes:
        raise RepqError(
            f"{str(data)!r} has {described['nc']} classes, but the model was trained for {classes}."
        )
    return described
