"""What every accuracy benchmark does: the same schemes on the same images, one table, one JSON."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.publish import publish
from repq_fx import (
    KL,
    MAE,
    MSE,
    CoarseFine,
    Cosine,
    MinMax,
    PerChannel,
    PerTensor,
    Scheme,
    analysis,
    api,
    reparameterize,
)
from repq_fx.analysis.report import MODEL_COLUMNS, Report, Row, accuracy_fields, similarity_fields

_WIDTHS = ((8, 8), (6, 6), (4, 8))


@dataclass(frozen=True)
class Task:
    """A float model, its calibration images and its test set."""

    name: str
    model: nn.Module
    calibration: Tensor
    images: Tensor
    labels: Tensor
    protocol: str


def headline_schemes() -> dict[str, Scheme]:
    """Per-tensor min-max beside the default, at each width."""
    return {
        f"{label} W{weight}A{activation}": make(weight, activation)
        for weight, activation in _WIDTHS
        for label, make in (("per-tensor min-max", Scheme.vanilla), ("repq_fx", Scheme))
    }


def ablation_schemes() -> dict[str, Scheme]:
    """The default with one thing changed at a time, and nothing but weights and ranges."""
    changes: dict[str, dict[str, Any]] = {"default": {}}
    helpers = ("equalization", "sequential_ranges", "output_search", "gptq", "bias_correction")
    changes |= {f"without {helper}": {helper: False} for helper in helpers}
    changes |= {"refit": {"refit": True}, "no refit": {"refit": False}}
    changes |= {"first and last at 8 bits": {"first_last_bits": 8}}
    changes |= {"float elementwise": {"float_elementwise": True}}
    changes |= {f"{rule}": {"activation": rule} for rule in (MinMax(), KL(), MAE(), Cosine())}
    changes |= {
        f"{weight}": {"weight": weight}
        for weight in (PerTensor(), PerChannel(MinMax()), PerChannel(), CoarseFine(PerTensor()))
    }
    return {
        f"W{weight_bits}A{activation_bits} {name}": scheme
        for weight_bits, activation_bits in _WIDTHS
        for name, scheme in [
            *((n, Scheme(weight_bits, activation_bits, **c)) for n, c in changes.items()),
            ("no helpers", Scheme.plain(weight_bits, activation_bits, CoarseFine(), MSE())),
        ]
    }


def data_argument(description: str) -> argparse.Namespace:
    """The command line of every benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="see README")
    parser.add_argument("--ablation", action="store_true", help="all quantizers and rules")
    parser.add_argument("--backend", default="int8", choices=("int8", "reference"))
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        parser.error(f"there is no folder {str(arguments.data)!r}; see benchmarks/README.md")
    return arguments


def run(task: Task, *, ablation: bool, backend: str) -> None:
    """Quantize and evaluate every scheme, print the table and write it to `results/`."""
    schemes = ablation_schemes() if ablation else headline_schemes()
    merged = reparameterize(task.model, task.images[:2])
    reference = _scores(merged, task.images)
    rows = [Row("FP32, merged", **accuracy_fields(reference, task.labels))]
    for name, scheme in tqdm(schemes.items(), unit="scheme"):
        start = time.perf_counter()
        quantized = api.quantize(
            merged, task.calibration, scheme=scheme, backend=backend, progress=False
        )
        seconds = time.perf_counter() - start
        scores = _scores(quantized, task.images)
        fields = accuracy_fields(scores, task.labels) | similarity_fields(reference, scores)
        rows.append(Row(name, **fields, quantize_seconds=seconds))
    report = Report(
        f"{task.name} ({task.protocol}; {backend})", MODEL_COLUMNS, rows,
        {"protocol": task.protocol, "backend": backend},
    )  # fmt: skip
    publish(f"{task.name}{'_ablation' if ablation else ''}", report)


def _scores(model: nn.Module, images: Tensor) -> Tensor:
    return analysis.predict(model, images.split(50), progress=False)
