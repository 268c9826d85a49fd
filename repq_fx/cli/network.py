"""Networks on the command line: quantized and measured on images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.fx import GraphModule

from .. import analysis, api, integrations, passes
from ..analysis.report.rows import Protocol, Report, Row, Timing, print_table
from ..errors import RepqError
from ..reconstruct import Reconstruction
from .image_data import ImageData, image_format, open_images
from .measurements import (
    accuracy_fields,
    float_size,
    labels_for,
    scores_of,
    similarity_fields,
    slow_steps_of,
    warn_of_bad_result,
    warn_of_few_images,
)
from .model_source import build_model, load_weights, require_runs
from .outputs import report_path
from .request import Request
from .stages import Stages, shows_bars
from .storable import require_storable


@dataclass(frozen=True)
class _Inputs:
    """What is worked with; all that can be wrong with it has been refused."""

    network: nn.Module
    calibrating: ImageData
    evaluated: ImageData
    labels: Tensor | None
    batch_size: int

    @property
    def example(self) -> Tensor:
        """The first image, as a batch."""
        return next(self.calibrating.batches(1))


def quantize_network(
    request: Request, weights: Path | None, eval_data: Path | None, changes: Mapping[str, Any]
) -> None:
    """Write the INT8 model of a network, and what it is worth beside FP32.

    Args:
        request: What is asked for.
        weights: A state dict.
        eval_data: Images that are evaluated, in place of those that calibrate.
        changes: Fields of `Preprocessing` in place of the model's own.
    """
    stages = Stages()
    inputs = _open(request, weights, eval_data, changes, stages)
    calibration = list(inputs.calibrating.batches(size=inputs.batch_size))
    with stages.stage("merge", "merge branches"):
        merged = passes.merge_graph(inputs.network, inputs.example)
        require_storable(merged)
    with stages.stage("quantize", f"quantize with {inputs.calibrating.count} images"):
        int8 = api.quantize(
            inputs.network, calibration, inputs.example, scheme=request.scheme,
            reconstruction=request.reconstruction, backend=request.backend,
            progress=shows_bars(),
        )  # fmt: skip
        integrations.save(int8, request.out)
    rows = _measure(request, inputs, merged, int8, stages)
    print_table(
        f"{request.model}: {inputs.evaluated.count} images of {inputs.evaluated.name}, "
        f"{inputs.calibrating.count} calibrated; latency of one image, "
        f"{request.threads} thread(s)",
        rows,
    )
    warn_of_bad_result(
        rows,
        lambda: api.layer_sensitivities(merged, calibration, request.scheme, progress=False),
        stages,
    )
    report = report_path(request.out)
    Report(
        "quantize", request.model, _protocol(request, inputs), rows, weights=weights,
        output=request.out, scheme=request.scheme, reconstruction=request.reconstruction,
        backend=request.backend, stage_seconds=stages.seconds, warnings=stages.warnings,
    ).write(report)  # fmt: skip
    stages.end(request.out, report)


def _open(
    request: Request,
    weights: Path | None,
    eval_data: Path | None,
    changes: Mapping[str, Any],
    stages: Stages,
) -> _Inputs:
    network, preprocessing = build_model(request.model)
    if weights is not None:
        load_weights(network, weights)
    preprocessing = replace(preprocessing, **changes)
    images = evaluated = open_images(request.data, preprocessing)
    if eval_data is not None:
        evaluated = open_images(eval_data, preprocessing, option="--eval-data")
    calibrating = images.evenly(request.calibration_images)
    if request.reconstruction is not None:
        _require_enough_to_learn(request.reconstruction, calibrating.count)
    outputs = require_runs(network, next(calibrating.batches(1)), "--image-size, --mean and --std")
    labels = labels_for(evaluated, outputs, stages)
    if weights is None and request.model.startswith("timm:"):
        stages.warn(f"without --weights {request.model} has random ones.")
    warn_of_few_images(calibrating.count, stages)
    if eval_data is None or eval_data.resolve() == request.data.resolve():
        stages.warn(
            f"the {calibrating.count} images that calibrate are among the {images.count} that are "
            "evaluated, which flatters the result; give others as --eval-data."
        )
    return _Inputs(network, calibrating, evaluated, labels, request.batch_size)


def _require_enough_to_learn(method: Reconstruction, count: int) -> None:
    """As `reconstruct` does after the calibration."""
    images = min(count, method.images)
    held_out = method.held_out(images)
    if images - held_out < method.batch_size:
        raise RepqError(
            f"--reconstruction {type(method).__name__.lower()} learns from batches of "
            f"{method.batch_size}, but of {images} images {held_out} are held out for validation; "
            "give more --data and --calibration-images."
        )


def _measure(
    request: Request, inputs: _Inputs, merged: GraphModule, int8: GraphModule, stages: Stages
) -> list[Row]:
    """FP32 and INT8."""
    models = {"FP32": analysis.in_channels_last(merged), "INT8": int8}
    with stages.stage("latency", "time FP32 and INT8"):
        latency = analysis.measure_latency(models, (inputs.example,), threads=request.threads)
        slow_steps = slow_steps_of(merged, int8, inputs.example, request.threads)
    with stages.stage("evaluate", f"evaluate FP32 and INT8 on {inputs.evaluated.count} images"):
        reference, scores = (
            scores_of(model, inputs.evaluated.batches(size=inputs.batch_size), label=label)
            for label, model in models.items()
        )
    return [
        Row(
            "FP32, merged",
            **accuracy_fields(reference, inputs.labels),
            size_bytes=float_size(merged),
            latency_ms=latency["FP32"],
            speedup=1.0,
        ),
        Row(
            f"INT8 {request.scheme_name}",
            **accuracy_fields(scores, inputs.labels),
            **similarity_fields(reference, scores),
            size_bytes=request.out.stat().st_size,
            latency_ms=latency["INT8"],
            speedup=latency["FP32"].median / latency["INT8"].median,
            quantize_seconds=stages.seconds["quantize"],
            quantize_peak_bytes=stages.peak_bytes["quantize"],
            slow_steps=slow_steps,
            float_operations=analysis.float_operations(int8),
        ),
    ]


def _protocol(request: Request, inputs: _Inputs) -> Protocol:
    return Protocol(
        data=inputs.calibrating.name, eval_data=inputs.evaluated.name,
        calibration_images=inputs.calibrating.count, evaluation_images=inputs.evaluated.count,
        batch_size=inputs.batch_size,
        image=image_format(inputs.example.shape[1:], inputs.calibrating.preprocessing),
        latency=Timing(batch_size=1, threads=request.threads),
    )  # fmt: skip
