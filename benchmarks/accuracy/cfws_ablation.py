"""The CFWS paper's ablations on our data: `python -m benchmarks.accuracy.cfws_ablation mobileone`.

Every range rule with every weight quantizer, from the tensor before and after the ReLU. The
published figures beside them are of RepVGG-A1 and B1 on ImageNet: compare how the rows of a column
are ordered, not the columns. See `cfws_paper` for the other differences.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from benchmarks.accuracy import cfws_paper, cifar10, mobileone
from benchmarks.accuracy.cfws_paper import PUBLISHED_FLOAT, Histograms, Variant
from benchmarks.accuracy.comparison import report
from repq_fx import reparameterize

_TASKS = {"mobileone": mobileone.load_task, "cifar10": cifar10.load_task}


@dataclass(frozen=True)
class AblationRow:
    """Our figures of one variant, and the paper's of other networks."""

    weight: str = field(metadata={"heading": "weights"})
    placement: str | None = field(metadata={"heading": "range taken"})
    rule: str | None
    top1: float = field(metadata={"heading": "top-1 %"})
    agreement: float | None = field(metadata={"heading": "agrees %"})
    published_a1: float | None = field(metadata={"heading": "published A1", "digits": 1})
    published_b1: float | None = field(metadata={"heading": "published B1", "digits": 1})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=_TASKS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="see README")
    parser.add_argument("--backend", default="x86", choices=("x86", "reference"))
    parser.add_argument("--limit", type=int, help="evaluated images; nothing is written then")
    arguments = parser.parse_args()
    task = _TASKS[arguments.task](arguments.data)
    images = task.images[: arguments.limit]
    calibration = task.calibration[:32]  # as many as in the paper
    merged = reparameterize(task.model, images[:2])
    histograms = Histograms.collect(merged, calibration)
    batches = images.split(50)
    rows = [_float_row(merged, batches, task.labels)]
    for variant in tqdm(cfws_paper.all_variants(), unit="variant"):
        quantized = cfws_paper.quantize(
            merged, calibration, histograms, variant, arguments.backend
        )
        rows.append(_row(merged, quantized, variant, batches, task.labels))
    report(
        f"cfws_ablation_{task.name}" if arguments.limit is None else None,
        f"{task.name}: W8A8, {len(images)} images, {len(calibration)} calibrate; {arguments.backend}",
        rows, backend=arguments.backend,
    )  # fmt: skip


