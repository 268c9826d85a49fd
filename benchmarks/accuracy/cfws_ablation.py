"""The CFWS paper's ablations on our data: `python -m benchmarks.accuracy.cfws_ablation mobileone`.

Every range rule with every weight quantizer, from the tensor before and after the ReLU. The
published figures beside them are of RepVGG-A1 and B1 on ImageNet: compare how the rows of a column
are ordered, not the columns with each other. See `cfws_paper` for the other differences.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from benchmarks.accuracy import cfws_paper, cifar10, mobileone
from benchmarks.accuracy.cfws_paper import PUBLISHED_FLOAT, Histograms, Scores, Variant
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

    @staticmethod
    def of(variant: Variant, scores: Scores) -> "AblationRow":
        published = (variant.published(name) for name in ("repvgg_a1", "repvgg_b1"))
        return AblationRow(
            variant.weight, variant.placement.value, variant.rule, scores.top1, scores.agreement,
            *published,
        )  # fmt: skip

    @staticmethod
    def of_float(scores: Scores) -> "AblationRow":
        published = (PUBLISHED_FLOAT[name] for name in ("repvgg_a1", "repvgg_b1"))
        return AblationRow("FP32, merged", None, None, scores.top1, None, *published)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=_TASKS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="see README")
    parser.add_argument("--backend", default="int8", choices=("int8", "reference"))
    parser.add_argument("--limit", type=int, help="evaluated images; nothing is written then")
    arguments = parser.parse_args()
    task = _TASKS[arguments.task](arguments.data)
    images = task.images[: arguments.limit]
    calibration = task.calibration[:32]  # as many as in the paper
    merged = reparameterize(task.model, images[:2])
    histograms = Histograms.collect(merged, calibration)
    variants = cfws_paper.all_variants()
    quantized = [
        cfws_paper.quantize(merged, calibration, histograms, variant, arguments.backend)
        for variant in tqdm(variants, desc="quantize", unit="variant")
    ]
    batches = tqdm(images.split(50), desc="evaluate", unit="batch")
    scores = cfws_paper.evaluate(merged, quantized, batches, task.labels)
    rows = [AblationRow.of_float(scores[0])]
    rows += [AblationRow.of(*pair) for pair in zip(variants, scores[1:], strict=True)]
    report(
        f"cfws_ablation_{task.name}" if arguments.limit is None else None,
        f"{task.name}: W8A8, {len(images)} images, {len(calibration)} calibrate",
        rows, backend=arguments.backend,
    )  # fmt: skip


if __name__ == "__main__":
    main()
