"""Quantize, measure, tell and write, whatever the model is."""

from dataclasses import replace
from typing import Any

from ... import integrations
from ...analysis import in_channels_last, measure_latency
from ...analysis.report import (
    MODEL_COLUMNS,
    Report,
    Row,
    Session,
    float_size,
    print_table,
    slow_steps_of,
    write,
)
from ..caveats import warn_of_bad_result
from ..outputs import report_path, require_storable
from ..stages import Stages
from .subject import Subject


def run(subject: Subject, stages: Stages) -> None:
    """Write the INT8 model, and what it is worth beside FP32."""
    out = subject.request.out
    with stages.stage("merge", "merge branches"):
        merged = subject.merge()
        require_storable(subject.graph_of(merged))
    with stages.stage("quantize", f"quantize with {subject.calibrating}"):
        int8 = subject.quantize()
        integrations.save(int8, out)
    report = Report(subject.title, MODEL_COLUMNS, _measure(subject, merged, int8, stages))
    print_table(report)
    warn_of_bad_result(report.rows, lambda: subject.sensitivities(merged), stages)
    write(replace(report, context=_session(subject, stages).context()), report_path(out))
    stages.end(out, report_path(out))


def _measure(subject: Subject, merged: Any, int8: Any, stages: Stages) -> list[Row]:
    """FP32 and INT8."""
    request = subject.request
    with stages.stage("latency", "time FP32 and INT8"):
        example = subject.example()
        float_module = in_channels_last(subject.module_of(merged))
        latency = measure_latency(
            {"FP32": float_module, "INT8": subject.module_of(int8)}, (example,),
            threads=request.threads,
        )  # fmt: skip
        slow_steps = slow_steps_of(
            subject.graph_of(merged), subject.graph_of(int8), example, request.threads
        )
    with stages.stage("evaluate", f"evaluate FP32 and INT8 on {subject.evaluated}"):
        float_fields, int8_fields = subject.evaluate(merged, int8)
    return [
        Row(
            "FP32, merged",
            **float_fields,
            size_bytes=float_size(float_module),
            latency_ms=latency["FP32"],
            speedup=1.0,
        ),
        Row(
            f"INT8 {request.scheme_name}",
            **int8_fields,
            size_bytes=request.out.stat().st_size,
            latency_ms=latency["INT8"],
            speedup=latency["FP32"].median / latency["INT8"].median,
            quantize_seconds=stages.seconds["quantize"],
            quantize_peak_bytes=stages.peak_bytes["quantize"],
            slow_steps=slow_steps,
        ),
    ]


def _session(subject: Subject, stages: Stages) -> Session:
    request = subject.request
    return Session(
        "quantize",
        request.model,
        subject.protocol,
        weights=request.weights,
        output=request.out,
        scheme=request.scheme,
        reconstruction=request.reconstruction,
        backend=request.backend,
        stage_seconds=stages.seconds,
        warnings=stages.warnings,
    )
