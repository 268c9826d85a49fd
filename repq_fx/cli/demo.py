"""`repq demo`: the whole job on an embedded model and embedded images."""

import io
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from safetensors.torch import load
from torch import Tensor, nn
from tqdm import tqdm

from .. import analysis, api, integrations, ops, passes
from .._torch_ao import quantize_with_torch_defaults
from ..analysis import LatencyStatistics
from ..analysis.report import (
    MODEL_COLUMNS,
    ImageFormat,
    Protocol,
    Report,
    Row,
    Session,
    Timing,
    accuracy_fields,
    float_size,
    print_table,
    scores_of,
    similarity_fields,
    write,
)
from ..models import fashion_repvgg
from ..quant import Scheme
from .options import LatencyThreads
from .outputs import require_writable
from .stages import Stages, shows_bars

_BATCH_SIZE = 100
_WIDTHS = ((8, 8), (6, 6), (4, 8))
_BASELINE, _OURS = "per-tensor min-max", "repq_fx"
_INTRODUCTION = """\
Merges a small RepVGG, trained on Fashion-MNIST, into one convolution per block,
quantizes it to W8A8, W6A6 and W4A8 (bits of weights and activations) by the
usual per-tensor min-max and by repq_fx, and compares them on 2,000 test images.
Model and images are in the package; it takes {duration}.
"""
_NEXT_STEPS = """\
On your own model, in evaluation mode and with a loader of its images:

    import repq_fx
    int8 = repq_fx.quantize(model, loader)
    repq_fx.save(int8, "model.repq")
"""


@dataclass(frozen=True)
class _Candidate:
    name: str
    model: nn.Module
    size_bytes: int
    seconds: float | None = None


def demo(
    report: Annotated[
        Path, typer.Option("--report", "--json", help="Where the JSON report goes")
    ] = Path("demo.json"),
    threads: LatencyThreads = 1,
) -> None:
    """Merge and quantize a small RepVGG trained on Fashion-MNIST, and compare.

    Everything it needs is embedded: the training-form weights, 2,000 test images that the network
    has not seen and 128 training images for calibration.
    """
    require_writable(report, "--report", ".json")
    quick = ops.has_extension()
    typer.echo(
        _INTRODUCTION.format(
            duration="about half a minute" if quick else "minutes, as no kernels are compiled"
        )
    )
    stages = Stages()
    model, test_images, test_labels, calibration_images = _load_assets()
    with stages.stage("merge", "merge branches"):
        merged = analysis.in_channels_last(passes.merge_graph(model, test_images[:2]))
    with stages.stage("quantize", f"quantize with {len(calibration_images)} images"):
        candidates = _candidates(merged, calibration_images)
    with stages.stage("latency", "time each on one image"):
        latency = analysis.measure_latency(
            {candidate.name: candidate.model for candidate in candidates},
            (test_images[:1],),
            threads=threads,
        )
    with stages.stage("evaluate", f"evaluate each on {len(test_images)} images"):
        rows = _measure(candidates, test_images, test_labels, latency)
    protocol = Protocol(
        data="Fashion-MNIST, training images", eval_data="Fashion-MNIST, test images",
        calibration_images=len(calibration_images), evaluation_images=len(test_images),
        batch_size=_BATCH_SIZE, image=ImageFormat(1, 28, 28, mean=(0.5,), std=(0.5,)),
        latency=Timing(batch_size=1, threads=threads),
    )  # fmt: skip
    session = Session(
        "demo", "repq_fx.models:fashion_repvgg", protocol, stage_seconds=stages.seconds
    )
    found = Report(
        f"RepVGG on Fashion-MNIST; latency of one image, {threads} thread(s)",
        MODEL_COLUMNS, rows, session.context(),
    )  # fmt: skip
    print_table(found)
    typer.echo(f"\n{_conclusion(rows)}\n")
    write(found, report)
    stages.end(report)
    typer.echo(f"\n{_NEXT_STEPS}")


def _measure(
    candidates: Sequence[_Candidate],
    images: Tensor,
    labels: Tensor,
    latency: Mapping[str, LatencyStatistics],
) -> list[Row]:
    """One row for each, the first of which is FP32."""
    rows: list[Row] = []
    reference: Tensor | None = None
    for candidate in candidates:
        batches = images.split(_BATCH_SIZE)
        scores = scores_of(candidate.model, batches, label=candidate.name, progress=shows_bars())
        reference = scores if reference is None else reference
        rows.append(
            Row(
                candidate.name,
                **accuracy_fields(scores, labels),
                **({} if scores is reference else similarity_fields(reference, scores)),
                size_bytes=candidate.size_bytes,
                latency_ms=latency[candidate.name],
                quantize_seconds=candidate.seconds,
            )
        )
    return rows


def _conclusion(rows: Sequence[Row]) -> str:
    """What the table shows, at the width where the two part most."""
    top1 = {row.name: row.get("top1_percent") or 0.0 for row in rows}
    widths = [_name(bits) for bits in _WIDTHS]
    width = max(widths, key=lambda width: top1[f"{_OURS} {width}"] - top1[f"{_BASELINE} {width}"])
    return (
        f"At {width}, {_BASELINE} falls from {top1[rows[0].name]:.1f} to "
        f"{top1[f'{_BASELINE} {width}']:.1f} % top-1, and {_OURS} has "
        f"{top1[f'{_OURS} {width}']:.1f} %."
    )


def _name(bits: tuple[int, int]) -> str:
    return "W{}A{}".format(*bits)


def _load_assets() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    assets = files("repq_fx.cli.demo_assets")
    model = fashion_repvgg().eval()
    model.load_state_dict(load((assets / "fashion_repvgg.safetensors").read_bytes()))
    with (assets / "fashion_mnist.npz").open("rb") as file:
        arrays = np.load(file)
        test, labels, calibration = (
            torch.from_numpy(arrays[name])
            for name in ("test_images", "test_labels", "calibration_images")
        )
    return model, _to_input(test), labels.long(), _to_input(calibration)


def _to_input(images: Tensor) -> Tensor:
    return images.float().div(127.5).sub(1.0).unsqueeze(1)


def _candidates(merged: nn.Module, images: Tensor) -> list[_Candidate]:
    recipes: dict[str, Callable[[], tuple[nn.Module, int]]] = {
        "torch FX default W8A8": lambda: _torch_default(merged, images)
    }
    for bits in _WIDTHS:
        for label, make in ((_BASELINE, Scheme.vanilla), (_OURS, Scheme)):
            recipes[f"{label} {_name(bits)}"] = partial(_ours, merged, images, make(*bits))
    candidates = [_Candidate("FP32, merged", merged, float_size(merged))]
    for name, recipe in tqdm(
        recipes.items(), desc="quantize", unit="model", leave=False, disable=not shows_bars()
    ):
        start = time.perf_counter()
        model, size_bytes = recipe()
        candidates.append(_Candidate(name, model, size_bytes, time.perf_counter() - start))
    return candidates


def _ours(merged: nn.Module, images: Tensor, scheme: Scheme) -> tuple[nn.Module, int]:
    """The quantized model as it comes back from its file, and the size of the file."""
    quantized = api.quantize(merged, images, scheme=scheme, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.repq")
        integrations.save(quantized, path)
        return integrations.load(path), path.stat().st_size


def _torch_default(merged: nn.Module, images: Tensor) -> tuple[nn.Module, int]:
    quantized = quantize_with_torch_defaults(merged, images.split(32))
    buffer = io.BytesIO()
    torch.save(quantized.state_dict(), buffer)
    return quantized, buffer.tell()
