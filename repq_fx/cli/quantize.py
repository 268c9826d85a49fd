"""`repq quantize`: measure FP32 against INT8 on the user's images and write the INT8 model."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from .. import analysis, api, integrations, passes
from ..errors import RepqError
from ..integrations import ultralytics
from ..quant import Scheme
from ..reconstruct import Reconstruction
from .detector import quantize_detector
from .image_data import open_images
from .measurements import accuracy_fields, float_size, similarity_fields
from .model_source import build_model, load_weights
from .report import Row, report_beside
from .storable import require_storable


def quantize(  # noqa: PLR0913  (one argument for each option of the command)
    model: Annotated[
        str, typer.Argument(help="package.module:factory, timm:NAME or ultralytics:FILE")
    ],
    data: Annotated[
        Path, typer.Option(help="Folder of images (subfolders = classes) or .npz; or data set YAML")
    ],
    out: Annotated[Path, typer.Option(help="Where the INT8 model goes; the report gets .json")],
    weights: Annotated[Path | None, typer.Option(help="State dict, .safetensors or .pt")] = None,
    scheme: Annotated[str, typer.Option(help="w8a8, w6a6, w4a8, ..., or vanilla")] = "w8a8",
    reconstruction: Annotated[
        str | None, typer.Option(help="Learn with adaround, brecq, qdrop or repapq")
    ] = None,
    backend: Annotated[str, typer.Option(help="x86 or reference")] = "x86",
    calibration_images: Annotated[
        int | None, typer.Option(help="The first N images calibrate [32; detectors: 128]")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the input in pixels")] = None,
    mean: Annotated[str | None, typer.Option(help="Per channel, as 0.485,0.456,0.406")] = None,
    std: Annotated[str | None, typer.Option(help="Per channel, as 0.229,0.224,0.225")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images per forward pass [32; detectors: 16]")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads for the latency measurement")] = 1,
    max_drop: Annotated[
        float | None,
        typer.Option(help="Detectors: leave layers in float until no more of mAP50-95 is lost"),
    ] = None,
) -> None:
    """Quantize MODEL with images of its own domain and compare it with FP32.

    The images of a detector (ultralytics:FILE) are those of a data set in YOLO's format: those of
    its ``train`` split calibrate, those of its ``val`` split are evaluated.
    """
    chosen, target = Scheme.from_name(scheme), api.as_backend(backend)
    method = None if reconstruction is None else Reconstruction.from_name(reconstruction)
    counts = {
        "--calibration-images": calibration_images,
        "--batch-size": batch_size,
        "--threads": threads,
    }
    for option, count in counts.items():
        if count is not None and count < 1:
            raise RepqError(f"{option} must be at least 1, got {count}.")
    if not out.parent.is_dir():
        raise RepqError(f"--out: there is no folder {str(out.parent)!r}.")
    package, _, file = model.partition(":")
    if package == "ultralytics":
        for option, value in {"--weights": weights, "--mean": mean, "--std": std}.items():
            if value is not None:
                raise RepqError(f"{option} does not apply to {model}, got {str(value)!r}.")
        if chosen != Scheme.vanilla():
            bits = chosen.weight_bits, chosen.activation_bits
            chosen = ultralytics.detector_scheme(*bits)
        quantize_detector(
            Path(file), data, out, scheme=chosen, name=scheme, reconstruction=method,
            backend=target, images=calibration_images or 128, imgsz=image_size,
            batch=batch_size or 16, max_drop=max_drop, threads=threads,
        )  # fmt: skip
        return
    if max_drop is not None:
        raise RepqError(f"--max-drop applies to ultralytics:FILE only, not to {model!r}.")
    calibration_images, batch_size = calibration_images or 32, batch_size or 32
    network, preprocessing = build_model(model)
    if weights is not None:
        load_weights(network, weights)
    changes: dict[str, Any] = {
        "size": image_size,
        "mean": _numbers(mean, "--mean"),
        "std": _numbers(std, "--std"),
    }
    given = {name: value for name, value in changes.items() if value is not None}
    images = open_images(data, replace(preprocessing, **given))

    example = next(images.batches(1))
    merged = passes.merge_graph(network, example)
    require_storable(merged)
    start = time.perf_counter()
    calibration = list(images.batches(calibration_images, size=batch_size))
    int8 = api.quantize(
        network, calibration, example, scheme=chosen, reconstruction=method, backend=target
    )
    seconds = time.perf_counter() - start
    integrations.save(int8, out)

    merged = merged.to(memory_format=torch.channels_last)
    latency = analysis.measure_latency({"FP32": merged, "INT8": int8}, (example,), threads=threads)
    float_scores, int8_scores = (
        analysis.predict(candidate, images.batches(size=batch_size), label=label)
        for label, candidate in (("FP32", merged), ("INT8", int8))
    )
    rows = [
        Row(
            "FP32, merged",
            **accuracy_fields(float_scores, images.labels),
            size_bytes=float_size(merged),
            latency=latency["FP32"],
        ),
        Row(
            f"INT8 {scheme}",
            **accuracy_fields(int8_scores, images.labels),
            **similarity_fields(float_scores, int8_scores),
            size_bytes=out.stat().st_size,
            latency=latency["INT8"],
            seconds=seconds,
        ),
    ]
    protocol = (
        f"{images.count} images, the first {min(calibration_images, images.count)} calibrated; "
        f"latency: batch 1, {threads} thread(s)"
    )
    report = report_beside(
        out, f"{model} on {data.name} ({protocol})", rows,
        model=model, protocol=protocol, scheme=chosen.describe(),
        reconstruction=None if method is None else str(method),
        float_operations=analysis.float_operations(int8),
    )  # fmt: skip
    typer.echo(f"wrote {out} and {report}")


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise RepqError(f"{option} must be numbers separated by commas, got {text!r}.") from error
