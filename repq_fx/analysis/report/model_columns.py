"""The columns of models: what the `repq` command and most benchmarks measure."""

from collections.abc import Mapping, Sequence

from ..speed import StepTime
from .columns import Column, Columns, Remark, decimals, megabytes, milliseconds


def _held(size: int) -> str:
    return f"quantizing held {size / 1e6:.0f} MB more at most"


def _slow(steps: Sequence[StepTime]) -> str:
    return f"slow: {', '.join(map(str, steps))}" if steps else ""


def _in_float(operations: Mapping[str, int]) -> str:
    counts = (f"{name} ({count})" for name, count in operations.items())
    return f"in float {', '.join(counts) or 'nothing'}"


def _float_layers(names: Sequence[str]) -> str:
    return f"{len(names)} layers in float: {', '.join(names)}" if names else ""


MODEL_COLUMNS: Columns = (
    Column("name", "model"),
    Column("top1_percent", "top-1\n%"),
    Column("map50_95_percent", "mAP50-95\n%"),
    Column("map50_percent", "mAP50\n%"),
    Column("agreement_percent", "agrees\n%", decimals(1)),
    Column("sqnr_db", "SQNR\ndB", decimals(1)),
    Column("size_bytes", "size\nMB", megabytes),
    Column("latency_ms", "latency ms\n(quartiles)", milliseconds),
    Column("speedup", "speed-\nup"),
    Column("quantize_seconds", "made\nin s", decimals(1)),
    Remark("quantize_peak_bytes", _held),
    Remark("slow_steps", _slow),
    Remark("float_operations", _in_float),
    Remark("float_layers", _float_layers),
    Remark("problem"),
)
"""Their values:

    name: The model, and in what it ran.
    top1_percent: Top-1 accuracy.
    map50_95_percent: Of a detector, mean average precision over IoU 0.5 to 0.95.
    map50_percent: The same at IoU 0.5.
    agreement_percent: Images for which top-1 is that of FP32.
    sqnr_db: SQNR of the output against FP32 in decibels.
    size_bytes: Size of the model file.
    latency_ms: `LatencyStatistics` of one forward pass.
    speedup: Median latency of the float model over this one's.
    quantize_seconds: Time to quantize.
    quantize_peak_bytes: The most memory that quantizing held above what was held before.
    slow_steps: `StepTime` of the slowest steps of a quantized network that is slower than FP32, and
        of the programs that run in PyTorch; empty if there is nothing to tell.
    float_operations: What of a quantized network runs in float, and how often.
    float_layers: Which convolutions and linear layers do.
    problem: Why there are no numbers.
"""
