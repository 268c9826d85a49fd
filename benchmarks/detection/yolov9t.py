"""YOLOv9-t beside the exports of ultralytics itself: `python -m benchmarks.detection.yolov9t`.

mAP by ``yolo.val`` at 320 px on the 128 images that the network was fitted to, in square frames as
it evaluates exports; the 128 images of ``val2017`` calibrate whatever is quantized. Latency is that
of the network with the decoding of its boxes, without NMS, for one image, all in turns. Needs
``pip install ".[bench]" ultralytics``. `benchmarks.detection.schemes` compares more schemes.
"""

import argparse
import contextlib
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

os.environ.setdefault("YOLO_OFFLINE", "true")

from ultralytics import YOLO
from ultralytics.nn.modules import RepConv

from benchmarks.publish import protocol_report, publish
from repq_fx import RepAPQ, Scheme, analysis, save
from repq_fx.analysis.report import Column, Columns, Row, decimals
from repq_fx.integrations import onnxruntime, openvino, ultralytics

SIDE = 320
SCHEMES = {
    "W8A8": (ultralytics.detector_scheme(), None),
    "W6A6": (ultralytics.detector_scheme(6, 6), None),
    "W6A6, RepAPQ": (ultralytics.detector_scheme(6, 6), RepAPQ()),
    "W8A8, min-max per tensor": (Scheme.vanilla(), None),
}
EXPORTS = {
    "FP32, ONNX Runtime": ("onnx", None),
    "INT8, ONNX Runtime": ("onnx", 8),
    "FP32, OpenVINO": ("openvino", None),
    "INT8, OpenVINO": ("openvino", 8),
}


COLUMNS: Columns = (
    Column("name", "model"),
    Column("map50_95", "mAP50-95"),
    Column("drop", "drop"),
    Column("map50", "mAP50"),
    Column("milliseconds", "ms\nmedian"),
    Column("lower", "lower\nquartile"),
    Column("upper", "upper\nquartile"),
    Column("size_mb", "MB"),
    Column("seconds", "made\nin s", decimals(0)),
)


@dataclass
class Form:
    """A model that ultralytics evaluates, and its network as a function of one image."""

    model: Any
    network: Callable[[Tensor], object] | None
    size_mb: float | None = None
    seconds: float | None = None


def described(data: Path, folder: Path) -> Path:
    """The YAML file of a copy of the data set, because ultralytics writes beside the labels."""
    copy = folder / "coco128"
    shutil.copytree(data / "coco128", copy)
    text = (data / "coco128" / "coco128.yaml").read_text()
    file = copy / "coco128.yaml"
    file.write_text(text.replace("path: .", f"path: {copy}"))
    return file


def float_forms(yolo: Any) -> dict[str, Form]:
    """Ultralytics' own fused network, and ours; of both the blocks are counted."""
    fused = YOLO(yolo.ckpt_path)
    fused.model.fuse(verbose=False)
    merged = ultralytics.merge(yolo)
    blocks = sum(isinstance(module, RepConv) for module in yolo.model.modules())
    convs = sum(isinstance(module, nn.Conv2d) for module in merged.model.model[0].modules())
    # Of three branches of each block, one convolution is left.
    before = sum(isinstance(module, nn.Conv2d) for module in yolo.model.modules())
    tqdm.write(f"{blocks} RepConv: {before} convolutions before merging, {convs} after")
    return {
        "FP32, ultralytics": Form(yolo, _in_torch(fused.model)),
        "FP32, merged": Form(merged, _in_torch(merged.model)),
        "FP32, merged, torch.compile": Form(merged, _compiled(merged.model)),
    }


def our_form(yolo: Any, data: Path, folder: Path, name: str, images: int) -> Form:
    scheme, method = SCHEMES[name]
    start = time.perf_counter()
    int8 = ultralytics.quantize(
        yolo, data, scheme=scheme, reconstruction=method, images=images, progress=False
    )
    seconds = time.perf_counter() - start
    save(int8, folder / "model.repq")
    return Form(int8, _in_torch(int8.model), (folder / "model.repq").stat().st_size / 1e6, seconds)


def exported_form(weights: Path, data: Path, folder: Path, name: str, threads: int) -> Form:
    """What ``yolo.export`` makes, run by the runtime that it is made for."""
    kind, bits = EXPORTS[name]
    source = folder / name.replace(", ", "_").replace(" ", "_") / weights.name
    source.parent.mkdir()
    shutil.copy(weights, source)  # It writes beside the file.
    start = time.perf_counter()
    options = {} if bits is None else {"quantize": bits, "data": str(data), "split": "train"}
    path = Path(YOLO(source).export(format=kind, imgsz=SIDE, **options))
    seconds = time.perf_counter() - start
    if kind == "onnx":
        network = onnxruntime.load(path, threads=threads)
        size = path.stat().st_size
    else:
        import openvino as package

        file = next(path.glob("*.xml"))
        model = package.Core().read_model(file)
        network = openvino.load(model, threads=threads, float32=bits is None)
        size = sum(entry.stat().st_size for entry in path.iterdir())
    return Form(YOLO(path, task="detect"), network, size / 1e6, seconds)


def average_precisions(model: Any, data: Path, folder: Path) -> tuple[float, float]:
    """mAP50-95 and mAP50 in percent, one image at a time in square frames."""
    with contextlib.redirect_stdout(io.StringIO()):
        metrics = model.val(
            data=str(data), imgsz=SIDE, batch=1, rect=False, plots=False, verbose=False,
            project=str(folder),
        )  # fmt: skip
    return 100.0 * metrics.box.map, 100.0 * metrics.box.map50


def _in_torch(detector: nn.Module) -> Callable[[Tensor], object]:
    detector = detector.eval().to(memory_format=torch.channels_last)
    return lambda images: detector(images.to(memory_format=torch.channels_last))


def _compiled(detector: nn.Module) -> Callable[[Tensor], object]:
    return _in_torch(torch.compile(detector, dynamic=False))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="see README")
    parser.add_argument("--schemes", nargs="*", default=list(SCHEMES), choices=SCHEMES)
    parser.add_argument("--exports", nargs="*", default=list(EXPORTS), choices=EXPORTS)
    parser.add_argument("--images", type=int, default=128, help="that calibrate ours")
    parser.add_argument("--repeats", type=int, default=60, help="timed calls")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    weights = arguments.data / "weights" / "yolov9t_coco128.pt"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = described(arguments.data, folder)
        forms = all_forms(weights, data, folder, arguments)
        rows = measure(forms, data, folder, arguments)
    report = protocol_report(
        f"YOLOv9-t at {SIDE} px, 128 images of train2017; {arguments.images} of val2017 calibrate; "
        f"latency: batch 1, {arguments.threads} thread(s)",
        COLUMNS, rows,
    )  # fmt: skip
    publish(f"yolov9t_coco128_{arguments.threads}t", report)


def all_forms(
    weights: Path, data: Path, folder: Path, arguments: argparse.Namespace
) -> dict[str, Form]:
    """FP32, ours, and those that ultralytics exports, by name."""
    yolo = YOLO(weights)
    forms = float_forms(yolo)
    for name in tqdm(arguments.schemes, unit="scheme"):
        forms[f"INT8, repq_fx, {name}"] = our_form(yolo, data, folder, name, arguments.images)
    for name in arguments.exports:
        forms[name] = exported_form(weights, data, folder, name, arguments.threads)
    return forms


def measure(
    forms: Mapping[str, Form], data: Path, folder: Path, arguments: argparse.Namespace
) -> list[Row]:
    """One row for each form; drops are from the first."""
    image = torch.rand(1, 3, SIDE, SIDE)
    networks = {name: partial(form.network, image) for name, form in forms.items()}
    latency = analysis.measure_latency(
        networks, repeats=arguments.repeats, threads=arguments.threads
    )
    averages = {name: average_precisions(form.model, data, folder) for name, form in forms.items()}
    best, _ = next(iter(averages.values()))
    return [
        Row(
            name,
            map50_95=averages[name][0],
            drop=best - averages[name][0],
            map50=averages[name][1],
            milliseconds=latency[name].median,
            lower=latency[name].lower_quartile,
            upper=latency[name].upper_quartile,
            size_mb=form.size_mb,
            seconds=form.seconds,
        )
        for name, form in forms.items()
    ]


if __name__ == "__main__":
    main()
