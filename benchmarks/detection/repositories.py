"""YOLOv6 and YOLOv7 in FP32 and INT8, by each repository's own evaluation code.

    export TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1  # Their loaders need it from torch 2.6 on.
    python -m benchmarks.detection.repositories --data DIR --checkpoints FOLDER

FOLDER is where `benchmarks.detection.fit` wrote its checkpoints. mAP is on the images that they
were fitted to; calibration uses ``val2017``. Rewrites `results/detection_repositories.json`.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.detection.fit import CLASSES, Labelled, labelled_images
from benchmarks.publish import protocol_report, publish
from repq_fx import Scheme, analysis
from repq_fx.analysis.report import Column, Columns, Row, decimals
from repq_fx.integrations import yolov6, yolov7

_BATCH = 8
# image, targets, paths, and for each image its size with the scale and frame that led to it.
Batch = tuple[Tensor, Tensor, list[str], list[Any]]


# Of a checkpoint, read by its repository's own loader.
COLUMNS: Columns = (
    Column("name", "model"),
    Column("map50_95", "mAP50-95"),
    Column("map50", "mAP50"),
    Column("box_error", "largest box\nerror, px", decimals(5)),
    Column("sqnr_db", "SQNR dB", decimals(1)),
    Column("size_mb", "checkpoint\nMB"),
)


def batches(data: Labelled) -> list[Batch]:
    """What the repositories' loaders of data yield, of images that are letterboxed already.

    For one evaluation: YOLOv7's scales the targets in place.
    """
    found = []
    side = data.images.shape[-1]
    for start in range(0, len(data.paths), _BATCH):
        indices = list(range(start, min(start + _BATCH, len(data.paths))))
        images, targets = data.batch(indices)
        shapes = [((side, side), ((1.0, 1.0), (0.0, 0.0))) for _ in indices]
        found.append((images, targets, [str(data.paths[i]) for i in indices], shapes))
    return found


def evaluate_yolov6(model: Any, loader: list[Batch]) -> dict[str, float]:
    """mAP50-95 and mAP50 in percent, by the repository's ``Evaler``."""
    from yolov6.core.evaler import Evaler

    evaler = Evaler(
        {"nc": CLASSES}, device=torch.device("cpu"), half=False, do_coco_metric=False,
        do_pr_metric=True, plot_curve=False,
    )  # fmt: skip
    evaler.init_data(loader, "train")
    results, *_ = evaler.predict_model(model, loader, "train")
    map50, map50_95 = evaler.eval_model(results, model, loader, "train")
    return {"map50_95": 100.0 * float(map50_95), "map50": 100.0 * float(map50)}


def evaluate_yolov7(model: Any, loader: list[Batch]) -> dict[str, float]:
    """mAP50-95 and mAP50 in percent, by the repository's ``test``."""
    from yolov7.test import test

    results, *_ = test({"nc": CLASSES}, model=model, dataloader=loader, plots=False)
    return {"map50_95": 100.0 * float(results[3]), "map50": 100.0 * float(results[2])}


def read_yolov6(path: Path) -> Any:
    """The model, as ``tools/eval.py`` reads it."""
    from yolov6.utils.checkpoint import load_checkpoint

    return load_checkpoint(str(path), map_location="cpu")


def read_yolov7(path: Path) -> Any:
    """The model, as ``test.py`` reads it."""
    from yolov7.models.experimental import attempt_load

    with torch.no_grad():  # Its fusing edits parameters.
        return attempt_load(str(path), map_location="cpu")


@dataclass(frozen=True)
class Repository:
    """How one repository reads and evaluates, and our module for it."""

    title: str
    checkpoint: str
    module: Any
    read: Callable[[Path], Any]
    evaluate: Callable[[Any, list[Batch]], dict[str, float]]


REPOSITORIES = (
    Repository("YOLOv6-n", "yolov6n.pt", yolov6, read_yolov6, evaluate_yolov6),
    Repository("small YOLOv7", "yolov7_small.pt", yolov7, read_yolov7, evaluate_yolov7),
)


@torch.no_grad()
def rows_of(repository: Repository, path: Path, data: Labelled, calibration: Tensor) -> list[Row]:
    """FP32, merged, and INT8 W8A8, each through a checkpoint and the repository's loader."""
    model = repository.read(path)
    images = data.images.float() / 255.0
    reference = model(images)[0]
    title = repository.title
    rows = [Row(f"{title} FP32", **repository.evaluate(model, batches(data)))]
    results = {
        "merged": repository.module.merge(path, imgsz=images.shape[-1]),
        "INT8 W8A8": repository.module.quantize(path, calibration, scheme=Scheme()),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, result in results.items():
            file = Path(folder) / "result.pt"
            repository.module.save_checkpoint(result, file)
            loaded = repository.read(file)
            found = loaded(images)[0]
            rows.append(
                Row(
                    f"{title} {name}",
                    **repository.evaluate(loaded, batches(data)),
                    box_error=float((found - reference)[..., :4].abs().max()),
                    sqnr_db=analysis.sqnr_db(reference, found),
                    size_mb=file.stat().st_size / 1e6,
                )
            )
    return rows


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--images", type=int, default=24, help="as they were fitted")
    parser.add_argument("--side", type=int, default=224, help="as they were fitted")
    parser.add_argument("--calibration", type=int, default=64)
    args = parser.parse_args()
    if not hasattr(np, "trapz"):  # Both repositories integrate with it; NumPy 2.4 dropped the name.
        np.trapz = np.trapezoid
    fitted = labelled_images(args.data, "train2017", args.images, args.side)
    others = labelled_images(args.data, "val2017", args.calibration, args.side)
    rows = []
    for repository in REPOSITORIES:
        path = args.checkpoints / repository.checkpoint
        rows += rows_of(repository, path, fitted, others.images.float() / 255.0)
    title = f"{args.images} images of train2017 that the networks were fitted to, {args.side} px"
    report = protocol_report(title, COLUMNS, rows, calibration_images=args.calibration)
    publish("detection_repositories", report)


if __name__ == "__main__":
    main()
