"""The CFWS paper's ablations on our data: `python -m benchmarks.accuracy.cfws_ablation mobileone`.

Every range rule with every weight quantizer, from the tensor before and after the ReLU. The
published figures beside them are of RepVGG-A1 and B1 on ImageNet: compare how the rows of a column
are ordered, not the columns with each other. See `cfws_paper` for the other differences.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from benchmarks.accuracy import cfws_paper, cifar10, mobileone
from benchmarks.accuracy.cfws_paper import PUBLISHED_FLOAT, Histograms, Scores, Variant
from benchmarks.publish import protocol_report, publish
from repq_fx import reparameterize
from repq_fx.analysis.report import Column, Columns, Row, decimals

_TASKS = {"mobileone": mobileone.load_task, "cifar10": cifar10.load_task}


COLUMNS: Columns = (
    Column("weight", "weights"),
    Column("placement", "range taken"),
    Column("rule", "rule"),
    Column("top1", "top-1 %"),
    Column("agreement", "agrees %"),
    # The paper's, of other networks.
    Column("published_a1", "published A1", decimals(1)),
    Column("published_b1", "published B1", decimals(1)),
)


def row_of(variant: Variant, scores: Scores) -> Row:
    """Our figures of one variant, and the paper's."""
    return Row(
        variant.weight, placement=variant.placement.value, rule=variant.rule, top1=scores.top1,
        agreement=scores.agreement, published_a1=variant.published("repvgg_a1"),
        published_b1=variant.published("repvgg_b1"),
    )  # fmt: skip


def row_of_float(scores: Scores) -> Row:
    return Row(
        "FP32, merged", top1=scores.top1, published_a1=PUBLISHED_FLOAT["repvgg_a1"],
        published_b1=PUBLISHED_FLOAT["repvgg_b1"],
    )  # fmt: skip


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
    rows = [row_of_float(scores[0])]
    rows += [row_of(*pair) for pair in zip(variants, scores[1:], strict=True)]
    report = protocol_report(
        f"{task.name}: W8A8, {len(images)} images, {len(calibration)} calibrate",
        COLUMNS, rows, backend=arguments.backend,
    )  # fmt: skip
    publish(f"cfws_ablation_{task.name}" if arguments.limit is None else None, report)


if __name__ == "__main__":
    main()
