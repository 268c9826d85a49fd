"""`repq demo`: the whole job on an embedded model and embedded images."""

import io
import tempfile
import time
from collections.abc import Callable
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

from .. import analysis, api, integrations, passes
from .._torch_ao import quantize_with_torch_defaults
from ..models import fashion_repvgg
from ..quant import Scheme
from .measurements import accuracy_fields, float_size, similarity_fields
from .report import Row, print_table, write_json

_WIDTHS = ((8, 8), (6, 6), (4, 8))
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
    report: Annotated[Path, typer.Option(help="Where the JSON report goes")] = Path("demo.json"),
    threads: Annotated[int, typer.Option(help="Threads for the latency measurement")] = 1,
) -> None:
    """Merge and quantize a small RepVGG trained on Fashion-MNIST, and compare.

    Everything it needs is embedded: the training-form weights, 2,000 test images that the network
    has not seen and 128 training images for calibration.
    """
    model, test_images, test_labels, calibration_images = _load_assets()
    merged = passes.merge_graph(model, test_images[:2]).to(memory_format=torch.channels_last)
    candidates = _candidates(merged, calibration_images)
    latency = analysis.measure_latency(
        {candidate.name: candidate.model for candidate in candidates},
        (test_images[:1],),
        threads=threads,
    )
    rows: list[Row] = []
    reference: Tensor | None = None
    for candidate in candidates:
        batches = test_images.split(100)
        scores = analysis.predict(candidate.model, batches, label=candidate.name)
        reference = scores if reference is None else reference
        rows.append(
            Row(
                candidate.name,
                **accuracy_fields(scores, test_labels),
                **({} if scores is reference else similarity_fields(reference, scores)),
                size_bytes=candidate.size_bytes,
                latency=latency[candidate.name],
                seconds=candidate.seconds,
            )
        )
    protocol = (
        "RepVGG on Fashion-MNIST, 2,000 test images, 128 calibration images; "
        f"latency: batch 1, {threads} thread(s)"
    )
    print_table(protocol, rows)
    write_json(report, rows, protocol=protocol)
    typer.echo(f"wrote {report}\n\n{_NEXT_STEPS}")


def _load_assets() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    assets = files("repq_fx.cli") / "demo_assets"
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
        "torch prepare_fx default W8A8": lambda: _torch_default(merged, images)
    }
    for weight_bits, activation_bits in _WIDTHS:
        width = f"W{weight_bits}A{activation_bits}"
        for label, make in (("per-tensor min-max", Scheme.vanilla), ("repq_fx", Scheme)):
            scheme = make(weight_bits, activation_bits)
            recipes[f"{label} {width}"] = partial(_ours, merged, images, scheme)
    candidates = [_Candidate("FP32, merged", merged, float_size(merged))]
    for name, recipe in tqdm(recipes.items(), desc="quantize", unit="model"):
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
