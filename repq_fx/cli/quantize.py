"""`repq quantize`: measure FP32 against INT8 on the user's images and write the INT8 model."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import RepqError
from ..integrations import ultralytics
from ..lowering import as_backend
from ..quant import Override, Scheme
from ..reconstruct import Reconstruction
from .detector import quantize_detector
from .network import quantize_network
from .outputs import require_writable_with_report
from .request import Request

_FOR_NETWORKS = "--weights", "--eval-data", "--mean", "--std"


def quantize(  # noqa: PLR0913  (one argument for each option of the command)
    model: Annotated[
        str, typer.Argument(help="package.module:factory, timm:NAME or ultralytics:FILE.pt")
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="Images that calibrate: a folder (subfolders are classes) or .npz; "
            "of a detector, the data set's YAML file"
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="The INT8 model, a .repq file; the report gets .json")
    ],
    weights: Annotated[
        Path | None,
        typer.Option(help="State dict, .safetensors or .pt", show_default="as MODEL builds it"),
    ] = None,
    eval_data: Annotated[
        Path | None,
        typer.Option(help="Other images, which are evaluated", show_default="those that calibrate"),
    ] = None,
    scheme: Annotated[str, typer.Option(help="w8a8, w6a6, w4a8, ..., or vanilla")] = "w8a8",
    fast: Annotated[
        bool, typer.Option(
            "--fast", help="In less time, a little less accurate", show_default="thorough"
        )
    ] = False,
    float_layer: Annotated[
        list[str] | None,
        typer.Option(help="Leave this layer in float; can be repeated", show_default="none"),
    ] = None,
    reconstruction: Annotated[
        str | None,
        typer.Option(help="Learn with adaround, brecq, qdrop or repapq", show_default="none"),
    ] = None,
    backend: Annotated[str, typer.Option(help="x86 or reference")] = "x86",
    calibration_images: Annotated[
        int | None,
        typer.Option(
            help="How many images calibrate: evenly spread, of a detector the first",
            show_default="32; to learn, 256; detectors, 128",
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size", "--size", help="Side of the input in pixels",
            show_default="the model's own, or 224",
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            help="Per channel, as 0.485,0.456,0.406", show_default="the model's own, or ImageNet's"
        ),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(
            help="Per channel, as 0.229,0.224,0.225", show_default="the model's own, or ImageNet's"
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", "--batch", help="Images per forward pass",
            show_default="32; detectors, 16",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads for the latency measurement")] = 1,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Detectors: leave layers in float until no more of mAP50-95 is lost",
            show_default="all are quantized",
        ),
    ] = None,
) -> None:  # fmt: skip
    """Quantize MODEL with images of its own domain and compare it with FP32.

    Of a detector (ultralytics:FILE.pt) the images of the train split calibrate, and those of the
    val split are evaluated.
    """
    counts = {
        "--calibration-images": calibration_images,
        "--batch-size": batch_size,
        "--threads": threads,
    }
    for option, count in counts.items():
        if count is not None and count < 1:
            raise RepqError(f"{option} must be at least 1, got {count}.")
    require_writable_with_report(out, "--out", ".repq")
    is_detector = re.match("ultralytics:.", model) is not None
    usual = 128 if is_detector else 32 if reconstruction is None else 256
    chosen = ultralytics.as_detector_scheme(scheme) if is_detector else Scheme.of(scheme)
    chosen = chosen.faster() if fast else chosen
    request = Request(
        model, data, out, scheme.lower(),
        chosen.with_overrides(*(Override(layer, None) for layer in float_layer or ())),
        None if reconstruction is None else Reconstruction.from_name(reconstruction),
        as_backend(backend), calibration_images or usual, image_size,
        batch_size or (16 if is_detector else 32), threads,
    )  # fmt: skip
    if is_detector:
        given = dict(zip(_FOR_NETWORKS, (weights, eval_data, mean, std), strict=True))
        for option, value in given.items():
            if value is not None:
                raise RepqError(f"{option} does not apply to {model}, got {str(value)!r}.")
        quantize_detector(request, max_drop)
    elif max_drop is not None:
        raise RepqError(f"--max-drop applies to ultralytics:FILE only, not to {model!r}.")
    else:
        changes: dict[str, Any] = {
            "size": image_size, "mean": _numbers(mean, "--mean"), "std": _numbers(std, "--std"),
        }  # fmt: skip
        given = {name: value for name, value in changes.items() if value is not None}
        quantize_network(request, weights, eval_data, given)


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise RepqError(f"{option} must be numbers separated by commas, got {text!r}.") from error
