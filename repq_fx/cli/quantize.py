"""`repq quantize`: measure FP32 against INT8 on the user's images and write the INT8 model."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from ..errors import RepqError
from ..lowering import as_backend
from ..quant import Override, Scheme
from ..reconstruct import Reconstruction
from .options import LatencyThreads, Weights, require_at_least
from .outputs import require_writable_with_report
from .quantizing.detector import Detector
from .quantizing.network import Network
from .quantizing.request import Request
from .quantizing.run import run
from .quantizing.subject import Subject
from .stages import Stages

_Model: TypeAlias = Annotated[
    str, typer.Argument(help="package.module:factory, timm:NAME or ultralytics:FILE.pt")
]
_Data: TypeAlias = Annotated[
    Path,
    typer.Option(
        help="Images that calibrate: a folder (subfolders are classes) or .npz; "
        "of a detector, the data set's YAML file"
    ),
]
_Out: TypeAlias = Annotated[
    Path, typer.Option(help="The INT8 model, a .repq file; the report gets .json")
]
_EvalData: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Other images, which are evaluated", show_default="those that calibrate"),
]
_Scheme: TypeAlias = Annotated[str, typer.Option(help="w8a8, w6a6, w4a8, ..., or vanilla")]
_Fast: TypeAlias = Annotated[
    bool,
    typer.Option("--fast", help="In less time, a little less accurate", show_default="thorough"),
]
_FloatLayers: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="Leave this layer in float; can be repeated", show_default="none"),
]
_Method: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Learn with adaround, brecq, qdrop or repapq", show_default="none"),
]
_Backend: TypeAlias = Annotated[str, typer.Option(help="int8 or reference")]
_Images: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="How many images calibrate: evenly spread, of a detector the first",
        show_default="32; to learn, 256; detectors, 128",
    ),
]
_Side: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--image-size", "--size", help="Side of the input in pixels",
        show_default="the model's own, or 224",
    ),
]  # fmt: skip
_Mean: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Per channel, as 0.485,0.456,0.406", show_default="the model's own, or ImageNet's"
    ),
]
_Std: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Per channel, as 0.229,0.224,0.225", show_default="the model's own, or ImageNet's"
    ),
]
_BatchSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--batch-size", "--batch", help="Images per forward pass",
        show_default="32; detectors, 16",
    ),
]  # fmt: skip
_MaxDrop: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Detectors: leave layers in float until no more of mAP50-95 is lost",
        show_default="all are quantized",
    ),
]


def quantize(  # noqa: PLR0913  (one argument for each option of the command)
    model: _Model,
    data: _Data,
    out: _Out,
    weights: Weights = None,
    eval_data: _EvalData = None,
    scheme: _Scheme = "w8a8",
    fast: _Fast = False,
    float_layer: _FloatLayers = None,
    reconstruction: _Method = None,
    backend: _Backend = "int8",
    calibration_images: _Images = None,
    image_size: _Side = None,
    mean: _Mean = None,
    std: _Std = None,
    batch_size: _BatchSize = None,
    threads: LatencyThreads = 1,
    max_drop: _MaxDrop = None,
) -> None:
    """Quantize MODEL with images of its own domain and compare it with FP32.

    Of a detector (ultralytics:FILE.pt) the images of the train split calibrate, and those of the
    val split are evaluated.
    """
    require_at_least(1, "--calibration-images", calibration_images)
    require_at_least(1, "--batch-size", batch_size)
    require_at_least(1, "--threads", threads)
    require_writable_with_report(out, "--out", ".repq")
    kind = _kind_of(model)
    _require_options_of(
        kind, model, for_detectors={"--max-drop": max_drop},
        for_networks={
            "--weights": weights, "--eval-data": eval_data, "--mean": mean, "--std": std,
        },
    )  # fmt: skip
    method = None if reconstruction is None else Reconstruction.from_name(reconstruction)
    request = Request(
        model=model,
        data=data,
        out=out,
        scheme_name=scheme.lower(),
        scheme=_scheme(kind, scheme, float_layer or (), fast=fast),
        reconstruction=method,
        backend=as_backend(backend),
        calibration_images=calibration_images or kind.usual_images(method),
        image_size=image_size,
        batch_size=batch_size or kind.USUAL_BATCH_SIZE,
        threads=threads,
        weights=weights,
        eval_data=eval_data,
        mean=_numbers(mean, "--mean"),
        std=_numbers(std, "--std"),
        max_drop=max_drop,
    )
    stages = Stages()
    run(kind.open(request, stages), stages)


def _kind_of(model: str) -> type[Subject]:
    return Detector if re.match("ultralytics:.", model) else Network


def _scheme(kind: type[Subject], name: str, float_layers: Iterable[str], *, fast: bool) -> Scheme:
    scheme = kind.scheme_of(name)
    if fast:
        scheme = scheme.faster()
    return scheme.with_overrides(*(Override(layer, None) for layer in float_layers))


def _require_options_of(
    kind: type[Subject],
    model: str,
    *,
    for_networks: Mapping[str, object],
    for_detectors: Mapping[str, object],
) -> None:
    """Refuse options that are for the other kind of model."""
    if kind is Network:
        for option, value in for_detectors.items():
            if value is not None:
                raise RepqError(f"{option} applies to ultralytics:FILE only, not to {model!r}.")
    else:
        for option, value in for_networks.items():
            if value is not None:
                raise RepqError(f"{option} does not apply to {model}, got {str(value)!r}.")


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise RepqError(f"{option} must be numbers separated by commas, got {text!r}.") from error
