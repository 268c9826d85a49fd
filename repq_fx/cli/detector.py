"""Detectors on the command line: opened by file name, quantized, and measured."""

import time
from pathlib import Path
from typing import Any

import torch
import typer

from .. import analysis, integrations
from ..errors import RepqError
from ..integrations import ultralytics
from ..quant import Scheme
from .measurements import float_size
from .report import Row, report_beside
from .storable import require_storable


def open_detector(file: Path) -> Any:
    """What `repq quantize` wrote, or one of ultralytics' own files.

    Raises:
        RepqError: The file is missing, unreadable, or holds something else.
    """
    if file.suffix in ultralytics.SUFFIXES:
        return ultralytics.open_model(file)
    model = integrations.load(file)
    if not ultralytics.is_quantized(model):
        raise RepqError(f"{str(file)!r} holds a network without a detector around it.")
    return model


def quantize_detector(  # noqa: PLR0913  (one argument for each option of the command)
    file: Path, data: Path, out: Path, *, scheme: Scheme, name: str, threads: int,
    imgsz: int | None, batch: int, images: int, **options: Any,
) -> None:  # fmt: skip
    """Write the INT8 model of an ultralytics file, and what it is worth beside FP32.

    Args:
        file: A .pt or .yaml file.
        data: The data set's YAML file.
        out: Where the model goes; the report gets .json.
        scheme: See `integrations.ultralytics.quantize`, as for the others.
        name: Of the scheme, for the table.
        threads: Of the measurement of latency.
        imgsz: Side of the images; None for the one the model was trained with.
        batch: Images in one forward pass.
        images: The first so many of the ``train`` split calibrate.
        options: More arguments of `integrations.ultralytics.quantize`.
    """
    model = ultralytics.open_model(file)
    merged = ultralytics.merge(model, imgsz=imgsz)
    require_storable(merged.model.model[0].graph)
    start = time.perf_counter()
    int8 = ultralytics.quantize(
        model, data, scheme=scheme, imgsz=imgsz, batch=batch, images=images, **options
    )
    seconds = time.perf_counter() - start
    integrations.save(int8, out)

    side = ultralytics.image_size(model, imgsz)
    networks = {"FP32": merged.model.to(memory_format=torch.channels_last), "INT8": int8.model}
    latency = analysis.measure_latency(networks, (torch.rand(1, 3, side, side),), threads=threads)
    rows = []
    for key, candidate in {"FP32": merged, "INT8": int8}.items():
        map50_95, map50 = ultralytics.mean_average_precision(
            candidate, data, image_size=side, batch=batch
        )
        is_float = key == "FP32"
        rows.append(Row(
            "FP32, merged" if is_float else f"INT8 {name}", map50_95=map50_95, map50=map50,
            latency=latency[key], seconds=None if is_float else seconds,
            size_bytes=float_size(merged.model) if is_float else out.stat().st_size,
        ))  # fmt: skip
    in_float = ultralytics.float_layers(int8)
    protocol = (
        f"val split at {side} px, the first {images} images of the train split calibrated; "
        f"latency: batch 1, without NMS, {threads} thread(s)"
    )
    report = report_beside(
        out, f"{file.name} on {data.name} ({protocol})", rows,
        model=str(file), protocol=protocol, scheme=scheme.describe(),
        float_layers=in_float, **{key: str(value) for key, value in options.items()},
    )  # fmt: skip
    if in_float:
        typer.echo(f"{len(in_float)} layers stayed in float: {', '.join(in_float)}")
    typer.echo(f"wrote {out} and {report}")
