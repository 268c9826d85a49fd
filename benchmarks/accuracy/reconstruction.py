"""What learning adds: `python -m benchmarks.accuracy.reconstruction [--network ...] [--ablation]`.

MobileOne-S0 learns on every other image of the ImageNet sample (which is sorted by class) and is
evaluated on the others; RepVGG on CIFAR-10 learns on 1,024 training images and is evaluated on the
test set. First and last layers of W4A8 networks have 8 bits in the rows that say so, as in BRECQ.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import repq_fx
from benchmarks.accuracy import cifar10, mobileone
from benchmarks.publish import protocol_report, publish
from repq_fx import BRECQ, MAE, AdaRound, Fisher, QDrop, RepAPQ, Scheme, analysis
from repq_fx.analysis.report import Column, Columns, Row, decimals
from repq_fx.cli.image_data import Preprocessing, open_images
from repq_fx.reconstruct import Reconstruction


@dataclass(frozen=True)
class Task:
    """A merged network with the images it learns from and those it is judged by."""

    model: nn.Module
    calibration: Tensor
    images: Tensor
    labels: Tensor
    protocol: str


COLUMNS: Columns = (
    Column("scheme", "scheme"),
    Column("method", "method"),
    Column("top1", "top-1 %"),
    Column("drop", "drop"),
    Column("agreement", "agrees %"),
    Column("sqnr_db", "SQNR dB"),
    Column("seconds", "seconds", decimals(0)),
)


def mobileone_halves(data: Path) -> Task:
    whole = mobileone.load_task(data)
    return Task(
        repq_fx.reparameterize(whole.model, whole.images[:2]),
        whole.images[::2], whole.images[1::2], whole.labels[1::2],
        "250 ImageNet images (every other one) learn, the other 250 are evaluated",
    )  # fmt: skip


def cifar(data: Path) -> Task:
    whole = cifar10.load_task(data)
    to_input = Preprocessing(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), crop=1.0)
    train = open_images(data / "cifar10" / "train.npz", to_input)
    return Task(
        repq_fx.reparameterize(whole.model, whole.images[:2]),
        torch.cat(list(train.batches(1024))), whole.images, whole.labels,
        "1,024 training images learn, 5,000 test images are evaluated",
    )  # fmt: skip


TASKS: dict[str, Callable[[Path], Task]] = {"mobileone_s0": mobileone_halves, "cifar_repvgg": cifar}
SCHEMES = {
    "W8A8": Scheme.w8a8(),
    "W6A6": Scheme.w6a6(),
    "W4A8": Scheme.w4a8(),
    "W4A8, first and last 8": Scheme(weight_bits=4, first_last_bits=8),
    "W4A4": Scheme.w4a4(),
}
METHODS: dict[str, Reconstruction | None] = {"-": None, "RepAPQ": RepAPQ()}


def ablation() -> dict[str, Reconstruction | None]:
    """RepAPQ with each of its ingredients in and out, and the other methods for as many steps."""
    steps = RepAPQ().iterations
    no_affine: dict[str, Any] = {"gain_rate": 0.0, "shift_rate": 0.0}
    return {
        "-": None,
        "same images, nothing learned": RepAPQ(iterations=0),
        "RepAPQ": RepAPQ(),
        "no affine": RepAPQ(**no_affine),
        "shift only": RepAPQ(gain_rate=0.0),
        "MAE": RepAPQ(loss=MAE()),
        "MAE, no affine": RepAPQ(loss=MAE(), **no_affine),
        "MAE, shift only": RepAPQ(loss=MAE(), gain_rate=0.0),
        "across blocks": RepAPQ(across_blocks=1.0),
        "MAE, across blocks": RepAPQ(loss=MAE(), across_blocks=1.0),
        "Fisher": RepAPQ(loss=Fisher()),
        "layers": RepAPQ(partition="layers"),
        "stages": RepAPQ(partition="stages"),
        "net": RepAPQ(partition="net"),
        "with rounding": RepAPQ(rounding_rate=1e-2),
        "AdaRound": AdaRound(iterations=steps, rounding_rate=1e-2),
        "BRECQ": BRECQ(iterations=steps, rounding_rate=1e-2),
        "QDrop": QDrop(iterations=steps, rounding_rate=1e-2),
    }


def evaluate(task: Task, schemes: dict[str, Scheme], methods: dict[str, Any]) -> list[Row]:
    """Every method with every scheme."""
    reference = _scores(task.model, task.images)
    top1 = analysis.top1_accuracy(reference, task.labels)
    rows = [Row("FP32", method="-", top1=top1)]
    pairs = [(scheme, method) for scheme in schemes for method in methods]
    for scheme, method in tqdm(pairs, unit="network"):
        start = time.perf_counter()
        quantized = repq_fx.quantize(
            task.model, task.calibration, scheme=schemes[scheme], reconstruction=methods[method],
            progress=False,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        scores = _scores(quantized, task.images)
        found = analysis.top1_accuracy(scores, task.labels)
        rows.append(Row(
            scheme, method=method, top1=found, drop=top1 - found,
            agreement=analysis.agreement(reference, scores),
            sqnr_db=analysis.sqnr_db(reference, scores), seconds=seconds,
        ))  # fmt: skip
    return rows


def _scores(model: nn.Module, images: Tensor) -> Tensor:
    return analysis.predict(model, images.split(50), progress=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="see README")
    parser.add_argument("--network", default="mobileone_s0", choices=TASKS)
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES), choices=SCHEMES)
    parser.add_argument("--ablation", action="store_true", help="of RepAPQ's ingredients")
    parser.add_argument("--methods", nargs="+", help="of the table's rows, all by default")
    parser.add_argument("--images", type=int, help="learn from so many only")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    task = TASKS[arguments.network](arguments.data)
    if arguments.images is not None:
        task = replace(
            task, calibration=task.calibration[: arguments.images],
            protocol=f"{task.protocol}, but only the first {arguments.images} learn",
        )  # fmt: skip
    methods = ablation() if arguments.ablation else METHODS
    if arguments.methods:
        methods = {name: methods[name] for name in arguments.methods}
    schemes = {name: SCHEMES[name] for name in arguments.schemes}
    rows = evaluate(task, schemes, methods)
    kind = "_ablation" if arguments.ablation else ""
    report = protocol_report(
        f"{arguments.network}: {task.protocol}", COLUMNS, rows,
        method=str(RepAPQ()), threads=arguments.threads,
    )  # fmt: skip
    publish(f"reconstruction_{arguments.network}{kind}", report)


if __name__ == "__main__":
    main()
