"""`repq bench`: how long a model takes in FP32 and INT8, here and in other runtimes."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.fx import GraphModule

from .. import analysis, integrations, passes
from ..errors import RepqError
from .image_data import Preprocessing, open_images
from .latency_table import latency_rows, print_latency
from .model_source import build_model, load_weights
from .report import write_json
from .runtimes import (
    BASELINE,
    CANDIDATES,
    Candidate,
    Run,
    Workload,
    build_all,
    run_in_torch,
    versions,
)

_CALIBRATION_IMAGES = 8
_RUNTIMES = tuple(dict.fromkeys(candidate.runtime for candidate in CANDIDATES))


def bench(  # noqa: PLR0913  (one argument for each option of the command)
    model: Annotated[
        str, typer.Argument(help="package.module:factory, timm:NAME or a file of repq quantize")
    ],
    weights: Annotated[Path | None, typer.Option(help="State dict, .safetensors or .pt")] = None,
    data: Annotated[Path | None, typer.Option(help="Images or .npz in place of noise")] = None,
    batch: Annotated[int, typer.Option(help="Images per forward pass")] = 1,
    size: Annotated[str | None, typer.Option(help="Side in pixels, or C,H,W")] = None,
    threads: Annotated[int, typer.Option(help="Threads of every runtime")] = 1,
    repeats: Annotated[int, typer.Option(help="Timed calls of every runtime")] = 30,
    runtime: Annotated[
        list[str] | None, typer.Option(help=f"Only {', '.join(_RUNTIMES)}; can be repeated")
    ] = None,
    json: Annotated[Path, typer.Option(help="Where the JSON report goes")] = Path("bench.json"),
) -> None:
    """Time MODEL in FP32 and INT8: here, by torch.compile, in ONNX Runtime and in OpenVINO.

    Each gets the merged model and quantizes it by its own documented defaults.
    Without --data the images are noise, on which latency hardly depends.
    """
    for option, value, least in (
        ("--batch", batch, 1),
        ("--threads", threads, 1),
        ("--repeats", repeats, 2),
    ):
        if value < least:
            raise RepqError(f"{option} must be at least {least}, got {value}.")
    if not json.parent.is_dir():
        raise RepqError(f"--json: there is no folder {str(json.parent)!r}.")
    quantized = Path(model).is_file()
    if quantized and (weights or data or runtime):
        raise RepqError(
            f"{model!r} is quantized: --weights, --data and --runtime are for float models."
        )
    candidates = _chosen(runtime)
    network, preprocessing = (
        (integrations.load(model), Preprocessing()) if quantized else build_model(model)
    )
    if weights is not None:
        load_weights(network, weights)
    channels, height, width = shape = _shape(size, preprocessing)
    count = batch * math.ceil(_CALIBRATION_IMAGES / batch)
    calibration = (
        torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
        if data is None
        else _read(data, count, shape, preprocessing)
    )
    images = calibration[:batch]
    if quantized:
        candidates = (Candidate(f"INT8, {Path(model).name}", "file", run_in_torch),)
    else:
        network = passes.merge_graph(network, images).to(memory_format=torch.channels_last)

    runs, problems = build_all(candidates, Workload(network, images, calibration, threads))
    if not runs:
        raise RepqError("nothing to time: " + "; ".join(": ".join(p) for p in problems.items()))
    latency = analysis.measure_latency(runs, repeats=repeats, threads=threads, progress=True)
    names = [candidate.name for candidate in candidates]
    rows = latency_rows(names, latency, problems, baseline=BASELINE)
    protocol = (
        f"{channels}x{height}x{width}, batch {batch}, {threads} thread(s), "
        f"median of {repeats} rounds in turns"
    )
    print_latency(f"{model}: {protocol}", rows)
    in_float = _float_operations(runs)
    for name, operations in in_float.items():
        listed = ", ".join(f"{operation} ({count})" for operation, count in operations.items())
        typer.echo(f"{name}: in float {listed or 'nothing'}")
    write_json(
        json, rows, model=model, protocol=protocol, threads=threads, packages=versions(candidates),
        float_operations=in_float,
    )  # fmt: skip
    typer.echo(f"wrote {json}")


def _float_operations(runs: Mapping[str, Run]) -> dict[str, dict[str, int]]:
    """What the INT8 networks of our own do in float."""
    networks = {name: run.func for name, run in runs.items() if isinstance(run, partial)}
    return {
        name: analysis.float_operations(network)
        for name, network in networks.items()
        if name.startswith("INT8") and isinstance(network, GraphModule)
    }


def _chosen(runtimes: list[str] | None) -> tuple[Candidate, ...]:
    unknown = set(runtimes or ()) - set(_RUNTIMES)
    if unknown:
        raise RepqError(f"--runtime must be one of {', '.join(_RUNTIMES)}, got {min(unknown)!r}.")
    return tuple(c for c in CANDIDATES if not runtimes or c.runtime in runtimes)


def _shape(size: str | None, preprocessing: Preprocessing) -> tuple[int, int, int]:
    """Channels, height and width of an image."""
    if size is None:
        return (len(preprocessing.mean), preprocessing.size, preprocessing.size)
    parts = size.split(",")
    if not all(part.isdecimal() and int(part) for part in parts) or len(parts) not in (1, 3):
        raise RepqError(f"--size must be a side in pixels, or C,H,W as 3,224,320, got {size!r}.")
    if len(parts) == 1:
        return (len(preprocessing.mean), int(size), int(size))
    channels, height, width = map(int, parts)
    return (channels, height, width)


def _read(
    data: Path, count: int, shape: tuple[int, int, int], preprocessing: Preprocessing
) -> Tensor:
    channels, height, _ = shape
    changes: dict[str, Any] = {"size": height}
    if channels != len(preprocessing.mean):
        changes |= {"mean": (0.5,) * channels, "std": (0.5,) * channels}
    images = torch.cat(list(open_images(data, replace(preprocessing, **changes)).batches(count)))
    if images.shape != (count, *shape):
        raise RepqError(
            f"--data holds {list(images.shape)}, needed are at least {[count, *shape]}."
        )
    return images
