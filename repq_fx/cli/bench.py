"""`repq bench`: how long a model takes in FP32 and INT8, here and in other runtimes."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.fx import GraphModule

from .. import analysis, integrations, passes
from ..analysis.report.rows import Protocol, Report, Timing, print_table
from ..errors import RepqError
from ..integrations import ultralytics
from .image_data import Preprocessing, image_format, open_images
from .model_source import build_model, load_weights, require_runs
from .outputs import require_writable
from .runtimes import (
    BASELINE,
    CANDIDATES,
    Candidate,
    Run,
    Workload,
    build_all,
    latency_rows,
    run_in_torch,
)
from .stages import Stages, shows_bars

_CALIBRATION_IMAGES = 8
_RUNTIMES = tuple(dict.fromkeys(candidate.runtime for candidate in CANDIDATES))


def bench(  # noqa: PLR0913  (one argument for each option of the command)
    model: Annotated[
        str, typer.Argument(help="package.module:factory, timm:NAME or FILE.repq of repq quantize")
    ],
    weights: Annotated[
        Path | None,
        typer.Option(help="State dict, .safetensors or .pt", show_default="as MODEL builds it"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of images or .npz", show_default="noise")
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", "--batch-size", help="Images per forward pass")
    ] = 1,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", "--image-size", help="Side in pixels, or C,H,W",
            show_default="the model's own, or 3,224,224",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of every runtime")] = 1,
    repeats: Annotated[int, typer.Option(help="Timed calls of every runtime")] = 30,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help=f"Only {', '.join(_RUNTIMES)}; can be repeated", show_default="all"),
    ] = None,
    json: Annotated[Path, typer.Option(help="Where the JSON report goes")] = Path("bench.json"),
) -> None:  # fmt: skip
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
    require_writable(json, "--json", ".json")
    quantized = Path(model).is_file() and Path(model).suffix == ".repq"
    if quantized and (weights or data or runtime):
        raise RepqError(
            f"{model!r} is quantized: --weights, --data and --runtime are for float models."
        )
    candidates, stages = _chosen(runtime), Stages()
    network, preprocessing = (
        (_network_of(model), Preprocessing()) if quantized else build_model(model)
    )
    if weights is not None:
        load_weights(network, weights)
    shape = _shape(size, preprocessing)
    count = batch * math.ceil(_CALIBRATION_IMAGES / batch)
    calibration, done = _images(data, count, shape, preprocessing)
    images = calibration[:batch]
    require_runs(network, images[:1], "--size")
    if quantized:
        candidates = (Candidate(f"INT8, {Path(model).name}", "file", run_in_torch),)
    else:
        with stages.stage("merge", "merge branches"):
            network = analysis.in_channels_last(passes.merge_graph(network, images))

    with stages.stage("build", f"build {len(candidates)} candidates"):
        runs, problems = build_all(candidates, Workload(network, images, calibration, threads))
    if not runs:
        raise RepqError("nothing to time: " + "; ".join(": ".join(p) for p in problems.items()))
    with stages.stage("latency", f"time each {repeats} times, in turns"):
        latency = analysis.measure_latency(
            runs, repeats=repeats, threads=threads, progress=shows_bars()
        )
    names = [candidate.name for candidate in candidates]
    rows = [
        replace(row, float_operations=_float_operations(runs, row.name))
        for row in latency_rows(names, latency, problems, baseline=BASELINE)
    ]
    print_table(
        f"{model}: {'x'.join(map(str, shape))}, batch {batch}, {threads} thread(s), median of "
        f"{repeats} rounds in turns",
        rows,
    )
    protocol = Protocol(
        data=None if data is None else str(data),
        calibration_images=None if quantized else count,
        image=image_format(shape, done), latency=Timing(batch, threads, repeats),
    )  # fmt: skip
    Report("bench", model, protocol, rows, weights=weights, stage_seconds=stages.seconds).write(
        json
    )
    stages.end(json)


def _network_of(file: str) -> nn.Module:
    """What `repq quantize` wrote; of a detector its network, with the decoding of boxes."""
    model = integrations.load(file)
    network: nn.Module = model.model if ultralytics.is_quantized(model) else model
    return network


def _float_operations(runs: Mapping[str, Run], name: str) -> dict[str, int] | None:
    """What an INT8 network of our own does in float."""
    run = runs.get(name)
    network = run.func if isinstance(run, partial) else None
    if not name.startswith("INT8") or not isinstance(network, GraphModule):
        return None
    return analysis.float_operations(network)


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


def _images(
    data: Path | None, count: int, shape: tuple[int, int, int], preprocessing: Preprocessing
) -> tuple[Tensor, Preprocessing | None]:
    """Images or noise, and what was done to them; None where that is nothing."""
    if data is None:
        noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))
        return noise, None
    channels, height, _ = shape
    changes: dict[str, Any] = {"size": height}
    if channels != len(preprocessing.mean):
        changes |= {"mean": (0.5,) * channels, "std": (0.5,) * channels}
    found = open_images(data, replace(preprocessing, **changes))
    images = torch.cat(list(found.batches(count)))
    if images.shape != (count, *shape):
        raise RepqError(
            f"--data holds {list(images.shape)}, needed are at least {[count, *shape]}."
        )
    return images, found.preprocessing
