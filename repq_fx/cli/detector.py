"""Detectors on the command line: opened by file name, quantized, and measured."""

from pathlib import Path
from typing import Any

import torch

from .. import analysis, integrations
from ..analysis.report.rows import ImageFormat, Protocol, Report, Row, Timing, print_table
from ..errors import RepqError
from ..integrations import ultralytics
from .measurements import (
    float_size,
    scores_of,
    similarity_fields,
    slow_steps_of,
    warn_of_bad_result,
    warn_of_few_images,
)
from .outputs import report_path
from .request import Request
from .stages import Stages, shows_bars
from .storable import require_storable

_COMPARED_IMAGES = 16


def open_detector(file: Path) -> Any:
    """What `repq quantize` wrote, or one of ultralytics' own files.

    Raises:
        RepqError: The file is missing, unreadable, or holds something else.
    """
    if file.suffix in ultralytics.SUFFIXES:
        return ultralytics.open_model(file)
    model = integrations.load(file)
    if not ultralytics.is_quantized(model):
        raise RepqError(
            f"{str(file)!r} holds a network without a detector around it; "
            "only detectors predict boxes (repq bench times any network)."
        )
    return model


def image_format(side: int) -> ImageFormat:
    """The squares that detectors see, with values from 0 to 1."""
    return ImageFormat(3, side, side, mean=(0.0,) * 3, std=(1.0,) * 3)


def quantize_detector(request: Request, max_drop: float | None) -> None:
    """Write the INT8 model of an ultralytics file, and what it is worth beside FP32.

    Args:
        request: What is asked for; its model names a .pt or .yaml file, its data a YAML file.
        max_drop: See `integrations.ultralytics.quantize`.
    """
    stages = Stages()
    model = ultralytics.open_model(Path(request.model.partition(":")[2]))
    ultralytics.require_detector(model)
    side = ultralytics.image_size(model, request.image_size)
    folders = ultralytics.split_folders(model, request.data)
    sizes, batch = ultralytics.split_sizes(model, request.data), request.batch_size
    images = min(request.calibration_images, sizes["train"])
    warn_of_few_images(images, stages)
    if folders["train"] == folders["val"]:
        stages.warn(
            f"the train and the val split of {str(request.data)!r} are the same images: the result "
            "is evaluated on what calibrates, which flatters it."
        )
    with stages.stage("merge", "merge branches"):
        merged = ultralytics.merge(model, imgsz=side)
        require_storable(merged.model.model[0].graph)
    with stages.stage("quantize", f"quantize with {images} images of the train split"):
        int8 = ultralytics.quantize(
            model, request.data, scheme=request.scheme, reconstruction=request.reconstruction,
            max_drop=max_drop, imgsz=side, images=images, batch=batch, backend=request.backend,
            progress=shows_bars(),
        )  # fmt: skip
        integrations.save(int8, request.out)
    protocol = Protocol(
        data=f"train split of {request.data}", eval_data=f"val split of {request.data}",
        calibration_images=images, evaluation_images=sizes["val"], batch_size=batch,
        image=image_format(side), latency=Timing(batch_size=1, threads=request.threads),
    )  # fmt: skip
    rows = _measure(request, merged, int8, side, stages)
    print_table(
        f"{request.model}: val split of {request.data.name} at {side} px, {images} images of the "
        f"train split calibrated; latency of one image, without NMS, {request.threads} thread(s)",
        rows,
    )
    warn_of_bad_result(
        rows,
        lambda: ultralytics.layer_sensitivities(
            model, request.data, scheme=request.scheme, imgsz=side, images=images, batch=batch
        ),
        stages,
    )
    report = report_path(request.out)
    Report(
        "quantize", request.model, protocol, rows, output=request.out, scheme=request.scheme,
        reconstruction=request.reconstruction, backend=request.backend,
        stage_seconds=stages.seconds, warnings=stages.warnings,
    ).write(report)  # fmt: skip
    stages.end(request.out, report)


def _measure(request: Request, merged: Any, int8: Any, side: int, stages: Stages) -> list[Row]:
    """FP32 and INT8."""
    networks = {"FP32": analysis.in_channels_last(merged.model), "INT8": int8.model}
    with stages.stage("latency", "time FP32 and INT8"):
        example = torch.rand(1, 3, side, side)
        latency = analysis.measure_latency(networks, (example,), threads=request.threads)
        float_graph, int8_graph = (each.model.model[0].graph for each in (merged, int8))
        slow_steps = slow_steps_of(float_graph, int8_graph, example, request.threads)
    with stages.stage("evaluate", "evaluate FP32 and INT8 on the val split"):
        precision = {
            name: ultralytics.mean_average_precision(
                candidate,
                request.data,
                image_size=side,
                batch=request.batch_size,
            )
            for name, candidate in {"FP32": merged, "INT8": int8}.items()
        }
    images = ultralytics.calibration_images(
        merged, request.data, split="val", count=_COMPARED_IMAGES, image_size=side,
        batch=request.batch_size,
    )  # fmt: skip
    reference, maps = (
        scores_of(candidate.model.model[0], images, label="compare") for candidate in (merged, int8)
    )
    shared: dict[str, dict[str, Any]] = {
        name: {
            "map50_95_percent": map50_95,
            "map50_percent": map50,
            "latency_ms": latency[name],
            "speedup": latency["FP32"].median / latency[name].median,
        }
        for name, (map50_95, map50) in precision.items()
    }
    return [
        Row("FP32, merged", **shared["FP32"], size_bytes=float_size(merged.model)),
        Row(
            f"INT8 {request.scheme_name}",
            **shared["INT8"],
            **similarity_fields(reference, maps),
            size_bytes=request.out.stat().st_size,
            quantize_seconds=stages.seconds["quantize"],
            quantize_peak_bytes=stages.peak_bytes["quantize"],
            slow_steps=slow_steps,
            float_layers=tuple(ultralytics.float_layers(int8)),
        ),
    ]
