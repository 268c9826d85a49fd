"""`repq bench`: how long a model takes in FP32 and INT8, here and in other runtimes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import torch
import typer
from torch import Tensor, nn
from torch.fx import GraphModule

from .. import analysis, integrations, passes
from ..analysis.report import (
    MODEL_COLUMNS,
    Protocol,
    Report,
    Row,
    Session,
    Timing,
    print_table,
    write,
)
from ..errors import RepqError
from ..integrations import ultralytics
from .image_data import Preprocessing, image_format, open_images
from .model_source import build_model, load_weights, require_runs
from .options import Weights, require_at_least
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


_Model: TypeAlias = Annotated[
    str, typer.Argument(help="package.module:factory, timm:NAME or FILE.repq of repq quantize")
]
_Data: TypeAlias = Annotated[
    Path | None, typer.Option(help="Folder of images or .npz", show_default="noise")
]
_Batch: TypeAlias = Annotated[
    int, typer.Option("--batch", "--batch-size", help="Images per forward pass")
]
_Size: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--size", "--image-size", help="Side in pixels, or C,H,W",
        show_default="the model's own, or 3,224,224",
    ),
]  # fmt: skip
_Threads: TypeAlias = Annotated[int, typer.Option(help="Threads of every runtime")]
_Repeats: TypeAlias = Annotated[int, typer.Option(help="Timed calls of every runtime")]
_Runtime: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help=f"Only {', '.join(_RUNTIMES)}; can be repeated", show_default="all"),
]
_Json: TypeAlias = Annotated[Path, typer.Option(help="Where the JSON report goes")]


@dataclass(frozen=True)
class _Inputs:
    """A model, and the images that calibrate; what was done to them, or None for nothing."""

    network: nn.Module
    calibration: Tensor
    preprocessing: Preprocessing | None


def bench(  # noqa: PLR0913  (one argument for each option of the command)
    model: _Model,
    weights: Weights = None,
    data: _Data = None,
    batch: _Batch = 1,
    size: _Size = None,
    threads: _Threads = 1,
    repeats: _Repeats = 30,
    runtime: _Runtime = None,
    json: _Json = Path("bench.json"),
) -> None:
    """Time MODEL in FP32 and INT8: here, by torch.compile, in ONNX Runtime and in OpenVINO.

    Each gets the merged model and quantizes it by its own documented defaults.
    Without --data the images are noise, on which latency hardly depends.
    """
    require_at_least(1, "--batch", batch)
    require_at_least(1, "--threads", threads)
    require_at_least(2, "--repeats", repeats)
    require_writable(json, "--json", ".json")
    quantized = _is_quantized(model)
    if quantized and (weights or data or runtime):
        raise RepqError(
            f"{model!r} is quantized: --weights, --data and --runtime are for float models."
        )
    candidates, stages = _chosen(runtime), Stages()
    inputs = _open(model, weights, data, size, batch)
    network, images = inputs.network, inputs.calibration[:batch]
    if quantized:
        candidates = (Candidate(f"INT8, {Path(model).name}", "file", run_in_torch),)
    else:
        with stages.stage("merge", "merge branches"):
            network = analysis.in_channels_last(passes.merge_graph(network, images))
    workload = Workload(network, images, inputs.calibration, threads)
    rows = _time(candidates, workload, repeats, stages)
    protocol = Protocol(
        data=None if data is None else str(data),
        calibration_images=None if quantized else len(inputs.calibration),
        image=image_format(images.shape[1:], inputs.preprocessing),
        latency=Timing(batch, threads, repeats),
    )
    session = Session("bench", model, protocol, weights=weights, stage_seconds=stages.seconds)
    report = Report(
        f"{model}: {'x'.join(map(str, images.shape[1:]))}, batch {batch}, {threads} thread(s), "
        f"median of {repeats} rounds in turns",
        MODEL_COLUMNS, rows, session.context(),
    )  # fmt: skip
    print_table(report)
    write(report, json)
    stages.end(json)


def _is_quantized(model: str) -> bool:
    return Path(model).is_file() and Path(model).suffix == ".repq"


def _open(
    model: str, weights: Path | None, data: Path | None, size: str | None, batch: int
) -> _Inputs:
    """The model, and as many images as whole batches of them calibrate."""
    network, preprocessing = (
        (_network_of(model), Preprocessing()) if _is_quantized(model) else build_model(model)
    )
    if weights is not None:
        load_weights(network, weights)
    count = batch * math.ceil(_CALIBRATION_IMAGES / batch)
    calibration, done = _images(data, count, _shape(size, preprocessing), preprocessing)
    require_runs(network, calibration[:1], "--size")
    return _Inputs(network, calibration, done)


def _time(
    candidates: Sequence[Candidate], workload: Workload, repeats: int, stages: Stages
) -> list[Row]:
    """One row for each candidate, timed or with the reason why not."""
    with stages.stage("build", f"build {len(candidates)} candidates"):
        runs, problems = build_all(candidates, workload)
    if not runs:
        raise RepqError("nothing to time: " + "; ".join(": ".join(p) for p in problems.items()))
    with stages.stage("latency", f"time each {repeats} times, in turns"):
        latency = analysis.measure_latency(
            runs, repeats=repeats, threads=workload.threads, progress=shows_bars()
        )
    names = [candidate.name for candidate in candidates]
    return [
        row.with_values(float_operations=_float_operations(runs, row.name))
        for row in latency_rows(names, latency, problems, baseline=BASELINE)
    ]


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
