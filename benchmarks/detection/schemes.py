"""Which scheme suits a detector: `python -m benchmarks.detection.schemes`.

One mAP of 128 images moves by half a point when nothing that matters changes. So each scheme is
calibrated on three sets of images and evaluated at five sizes, on the images and on their mirror
images, and what is compared is the mean drop, with its standard error. The network is YOLOv9-t,
fitted at 320 px.
"""

import argparse
import contextlib
import io
import os
import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from tqdm import tqdm

os.environ.setdefault("YOLO_OFFLINE", "true")

from ultralytics import YOLO, __version__

from benchmarks.detection.yolov9t import SIDE, described
from benchmarks.publish import protocol_report, publish
from repq_fx import MinMax, RepAPQ, Scheme
from repq_fx.analysis.report import Column, Columns, Row
from repq_fx.integrations import ultralytics
from repq_fx.reconstruct import Reconstruction

SIDES = (256, 288, SIDE, 352, 384)
SETS = {"even": slice(0, None, 2), "odd": slice(1, None, 2), "all": slice(None)}
_W8A8, _W6A6 = ultralytics.detector_scheme(), ultralytics.detector_scheme(6, 6)
SCHEMES: dict[str, tuple[Scheme, Reconstruction | None]] = {
    "W8A8": (_W8A8, None),
    "W8A8, bias correction": (replace(_W8A8, bias_correction=True), None),
    "W8A8, sums in float": (replace(_W8A8, float_elementwise=True), None),
    "W8A8, nearest rounding": (replace(_W8A8, gptq=False), None),
    "W8A8, Scheme()": (Scheme(), None),
    "W8A8, min-max per tensor": (Scheme.vanilla(), None),
    "W8A8, RepAPQ": (_W8A8, RepAPQ()),
    "W6A6": (_W6A6, None),
    "W6A6, no bias correction": (replace(_W6A6, bias_correction=False), None),
    "W6A6, no output search": (replace(_W6A6, output_search=False), None),
    "W6A6, sums in float": (replace(_W6A6, float_elementwise=True), None),
    "W6A6, min-max": (replace(_W6A6, activation=MinMax(), output_search=False), None),
    "W6A6, Scheme.w6a6()": (Scheme.w6a6(), None),
    "W6A6, RepAPQ": (_W6A6, RepAPQ()),
}


COLUMNS: Columns = (
    Column("scheme", "scheme"),
    # Points of mAP50-95 that it loses: mean over all calibration sets, sizes and both sides of the
    # mirror, and at the size that the network was fitted at; each with its standard error.
    Column("drop", "drop"),
    Column("error", "error"),
    Column("drop_320", "at 320 px"),
    Column("error_320", "error"),
)


def row_of(scheme: str, drops: dict[str, dict[str, float]]) -> Row:
    """The means of the drops of each calibration set in each evaluation."""
    everywhere = [value for row in drops.values() for value in row.values()]
    fitted = [row[key] for row in drops.values() for key in row if key.endswith(f" {SIDE}")]
    drop, error = _mean_and_error(everywhere)
    drop_320, error_320 = _mean_and_error(fitted)
    return Row(scheme, drop=drop, error=error, drop_320=drop_320, error_320=error_320)


def _mean_and_error(values: list[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5


def calibration_yaml(yaml: Path, name: str) -> Path:
    """The data set of `yaml` with only some of its calibration images."""
    folder = yaml.parent
    chosen = sorted((folder / "images" / "val2017").glob("*.jpg"))[SETS[name]]
    listing = folder / f"{name}.txt"
    listing.write_text("\n".join(map(str, chosen)))
    file = folder / f"{name}.yaml"
    file.write_text(yaml.read_text().replace("train: images/val2017", f"train: {listing}"))
    return file


def mirrored(yaml: Path, folder: Path) -> Path:
    """A data set of the mirror images of those that `yaml` evaluates, with their boxes."""
    for kind in ("images", "labels"):
        (folder / kind / "train2017").mkdir(parents=True)
    for path in (yaml.parent / "images" / "train2017").glob("*.jpg"):
        mirror = ImageOps.mirror(Image.open(path))
        # Without further loss: JPEG's own error would be another one than that of the original.
        mirror.save(folder / "images" / "train2017" / f"{path.stem}.png", compress_level=1)
        labels = yaml.parent / "labels" / "train2017" / f"{path.stem}.txt"
        if labels.exists():
            boxes = [line.split() for line in labels.read_text().splitlines()]
            text = "".join(f"{c} {1 - float(x)} {' '.join(rest)}\n" for c, x, *rest in boxes)
            (folder / "labels" / "train2017" / labels.name).write_text(text)
    file = folder / "mirrored.yaml"
    file.write_text(yaml.read_text().replace(f"path: {yaml.parent}", f"path: {folder}"))
    return file


def averages(model: Any, yamls: dict[str, Path]) -> dict[str, float]:
    """mAP50-95 of each data set at each size, in percent."""
    with contextlib.redirect_stdout(io.StringIO()):
        return {
            f"{name} {side}": ultralytics.mean_average_precision(model, yaml, image_size=side)[0]
            for name, yaml in yamls.items()
            for side in SIDES
        }


def drops_of(
    name: str, yolo: Any, yamls: dict[str, Path], reference: dict[str, float], sets: Iterable[str]
) -> dict[str, dict[str, float]]:
    """Points that a scheme loses, by calibration set and evaluation."""
    scheme, method = SCHEMES[name]
    drops = {}
    for images in sets:
        file = calibration_yaml(yamls["plain"], images)
        int8 = ultralytics.quantize(
            yolo, file, scheme=scheme, reconstruction=method, progress=False
        )
        found = averages(int8, yamls)
        drops[images] = {key: reference[key] - found[key] for key in reference}
        tqdm.write(f"{name}, {images}: {drops[images]}")
    return drops


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="see README")
    parser.add_argument("--schemes", nargs="*", default=list(SCHEMES), choices=SCHEMES)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS)
    parser.add_argument("--name", help="of the JSON in results/", default="yolov9t_schemes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        yaml = described(arguments.data, Path(temporary))
        yamls = {"plain": yaml, "mirrored": mirrored(yaml, Path(temporary) / "mirrored")}
        yolo = YOLO(arguments.data / "weights" / "yolov9t_coco128.pt")
        reference = averages(yolo, yamls)
        drops = {
            name: drops_of(name, yolo, yamls, reference, arguments.sets)
            for name in tqdm(arguments.schemes, unit="scheme")
        }
    rows = [row_of(name, found) for name, found in drops.items()]
    report = protocol_report(
        "YOLOv9-t on 128 images of train2017, drop of mAP50-95", COLUMNS, rows,
        drops=drops, reference=reference, ultralytics=__version__,
    )  # fmt: skip
    publish(arguments.name, report)


if __name__ == "__main__":
    main()
