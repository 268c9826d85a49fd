"""Exported ONNX files in their runtimes: `python -m benchmarks.latency.exported [--networks ...]`.

Beside them our own INT8, of the same scheme, and what each runtime's own quantizer makes of the
merged network and the same images. Needs `pip install ".[bench]"`.
"""

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from benchmarks.accuracy import cifar10, mobileone
from benchmarks.accuracy.protocol import Task
from benchmarks.publish import protocol_report, publish
from repq_fx import PerChannel, Scheme, analysis, export, quantize, reparameterize
from repq_fx.analysis.report import (
    Column,
    Columns,
    Remark,
    Row,
    decimals,
    milliseconds,
)
from repq_fx.integrations import onnxruntime, openvino
from repq_fx.lowering.int8.lower import lower_to_int8

NETWORKS = {"cifar_repvgg": cifar10.load_task, "mobileone_s0": mobileone.load_task}
SCHEMES = {"split": Scheme(), "not split": Scheme(weight=PerChannel())}
COLUMNS: Columns = (
    Column("name", "model"),
    Column("top1_percent", "top-1\n%"),
    Column("agreement_percent", "agrees with\nFP32, %", decimals(1)),
    Column("reference_agreement_percent", "with its\nreference", decimals(1)),
    Column("integer_products", "integer\nproducts"),
    Column("latency_ms", "latency ms\n(quartiles)", milliseconds),
    Remark("float_products"),
)
"""Their values:

    reference_agreement_percent: Images for which top-1 is that of our reference of the same scheme.
    integer_products: How many convolutions and matrix products run in integers, of how many.
    float_products: Why the first of the others does not.
"""

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Candidate:
    """One row.

    Attributes:
        scores: The outputs for images, of which some can be run only one by one.
        timed: The same function, as it is timed with one image.
        batch: Images that `scores` takes.
        reference: The scheme of ours that it should compute, or None.
        uses: How its operators run, where that is known.
    """

    scores: Run
    timed: Run
    batch: int = 50
    reference: str | None = None
    uses: tuple[export.OperatorUse, ...] = ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    for name in arguments.networks:
        measure(NETWORKS[name](arguments.data), arguments.repeats)


def measure(task: Task, repeats: int) -> None:
    """One table and its file."""
    image = task.images[:1]
    merged = reparameterize(task.model, task.images[:2])
    references: dict[str, GraphModule] = {
        name: quantize(merged, task.calibration, scheme=scheme, backend="reference", progress=False)
        for name, scheme in SCHEMES.items()
    }
    with TemporaryDirectory() as folder, analysis.thread_count(1):
        candidates = {"FP32, torch": _in_torch(merged, None)}
        for name, reference in references.items():
            candidates |= _exported(name, reference, image, Path(folder))
        candidates |= _by_runtimes(merged, task.calibration, Path(folder))
        rows = _rows(task, candidates, references, repeats)
    side = image.shape[-1]
    protocol = f"{task.name}: {task.protocol}; latency of one image of {side}x{side}, one thread"
    report = protocol_report(f"{protocol}, {repeats} rounds in turns", COLUMNS, rows)
    publish(f"exported_{task.name}", report)


def _in_torch(network: nn.Module, reference: str | None) -> Candidate:
    run = partial(_channels_last, analysis.in_channels_last(network))
    return Candidate(run, run, reference=reference)


def _channels_last(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(images.contiguous(memory_format=torch.channels_last))


def _exported(
    name: str, reference: GraphModule, image: Tensor, folder: Path
) -> dict[str, Candidate]:
    """Ours, and the files of one scheme in their runtimes."""
    ours = lower_to_int8(copy.deepcopy(reference))
    candidates = {f"INT8, repq_fx, {name}": _in_torch(ours, name)}
    for target, load in (("onnxruntime", _in_onnxruntime), ("openvino", _in_openvino)):
        path = folder / f"{name}_{target}.onnx"
        export.onnx(reference, path, target=target, example_inputs=torch.cat([image, image]))
        uses = tuple(export.check_onnx(path, target))
        scores, timed = load(path, image)
        candidates[f"exported, {target}, {name}"] = Candidate(
            scores, timed, reference=name, uses=uses
        )
    return candidates


def _in_onnxruntime(path: Path, _: Tensor) -> tuple[Run, Run]:
    session = onnxruntime.load(path, threads=1)

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session(images.contiguous())[0])

    return run, run


def _in_openvino(path: Path, image: Tensor) -> tuple[Run, Run]:
    """With any number of images, and, as it is timed, for one."""
    from openvino import Core

    fixed = Core().read_model(path)
    fixed.reshape(list(image.shape))
    return _openvino_run(path), _openvino_run(fixed)


def _openvino_run(model: object) -> Run:
    compiled = openvino.load(model, threads=1, float32=False)
    return lambda images: torch.from_numpy(compiled(images.contiguous())[0].copy())


def _by_runtimes(merged: nn.Module, calibration: Tensor, folder: Path) -> dict[str, Candidate]:
    """What each runtime's own quantizer makes of it, for one image."""
    source, target = folder / "float.onnx", folder / "int8.onnx"
    onnxruntime.export(merged, calibration[:1], source)
    onnxruntime.quantize(source, target, calibration.split(1))
    uses = tuple(export.check_onnx(target, "onnxruntime"))
    scores, timed = _in_onnxruntime(target, calibration)
    candidates = {"its own INT8, onnxruntime": Candidate(scores, timed, 1, uses=uses)}
    model = openvino.quantize(openvino.convert(merged, calibration[:1]), calibration.split(1))
    run = _openvino_run(model)
    return candidates | {"its own INT8, openvino (NNCF)": Candidate(run, run, 1)}


def _rows(
    task: Task, candidates: dict[str, Candidate], references: dict[str, GraphModule], repeats: int
) -> list[Row]:
    scores = {name: _predicted(c.scores, task.images, c.batch) for name, c in candidates.items()}
    expected = {name: _predicted(net, task.images, 50) for name, net in references.items()}
    runs = {name: partial(c.timed, task.images[:1]) for name, c in candidates.items()}
    latency = analysis.measure_latency(runs, repeats=repeats, threads=1, progress=True)
    in_float = next(iter(scores.values()))
    return [
        Row(
            name,
            top1_percent=analysis.top1_accuracy(scores[name], task.labels),
            agreement_percent=analysis.agreement(in_float, scores[name]),
            reference_agreement_percent=None
            if candidate.reference is None
            else analysis.agreement(expected[candidate.reference], scores[name]),
            latency_ms=latency[name],
            **_precision(candidate.uses),
        )
        for name, candidate in candidates.items()
    ]


def _precision(uses: tuple[export.OperatorUse, ...]) -> dict[str, str | None]:
    products = [use for use in uses if use.is_product]
    if not products:
        return {}
    in_float = [use for use in products if not use.is_integer]
    return {
        "integer_products": f"{len(products) - len(in_float)}/{len(products)}",
        "float_products": f"{in_float[0].node}: {in_float[0].reason}" if in_float else None,
    }


def _predicted(run: Run, images: Tensor, batch: int) -> Tensor:
    return analysis.predict(run, images.split(batch), progress=False)


if __name__ == "__main__":
    main()
