"""What `repq bench` compares: one model in several runtimes, in FP32 and INT8."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import analysis, api
from ..analysis import LatencyStatistics
from ..analysis.report import Row
from ..integrations import onnxruntime, openvino
from .stages import shows_bars

_LOGGER = logging.getLogger(__name__)

Run = Callable[[], object]
"""One inference, of the images that it was built for."""


@dataclass(frozen=True)
class Workload:
    """What every runtime is given.

    Attributes:
        model: The merged float model, channels last.
        images: The float batch ``[N, C, H, W]`` that is timed.
        calibration: Float images ``[M, C, H, W]`` for those that quantize; M is a multiple of N,
            because some runtimes are built for one shape.
        threads: Threads of each runtime.
    """

    model: nn.Module
    images: Tensor
    calibration: Tensor
    threads: int

    @property
    def channels_last(self) -> Tensor:
        """The images in the order that torch's convolutions prefer."""
        return self.images.contiguous(memory_format=torch.channels_last)

    @property
    def batches(self) -> list[Tensor]:
        """The calibration images, in batches of the timed shape."""
        return list(self.calibration.split(len(self.images)))


@dataclass(frozen=True)
class Candidate:
    """One row of the table.

    Attributes:
        name: As shown.
        runtime: What ``--runtime`` calls it.
        build: Makes the inference, or raises where the runtime cannot take the model.
        packages: What it needs beside torch.
    """

    name: str
    runtime: str
    build: Callable[[Workload], Run]
    packages: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """How to install what is absent, or None."""
        absent = [package for package in self.packages if find_spec(package) is None]
        return f"not installed: pip install {' '.join(absent)}" if absent else None


def build_all(
    candidates: Iterable[Candidate], workload: Workload
) -> tuple[dict[str, Run], dict[str, str]]:
    """Build and try every candidate, with its threads.

    Returns:
        The inferences by name, and by name why there is none.
    """
    runs, problems = {}, {}
    bar = tqdm(
        list(candidates), desc="build", unit="runtime", leave=False, disable=not shows_bars()
    )
    with analysis.thread_count(workload.threads):
        for candidate in bar:
            bar.set_postfix_str(candidate.name)
            problem = candidate.missing()
            if problem is None:
                try:
                    with _silence():
                        run = candidate.build(workload)
                        with torch.inference_mode():  # As it is timed: here torch.compile compiles.
                            run()
                    runs[candidate.name] = run
                except Exception as error:  # Whatever a runtime raises at a model it cannot take.
                    _LOGGER.info("%s failed", candidate.name, exc_info=True)
                    problem = _first_line(error)
            if problem is not None:
                problems[candidate.name] = problem
    return runs, problems


def latency_rows(
    names: Iterable[str],
    latency: Mapping[str, LatencyStatistics],
    problems: Mapping[str, str],
    *,
    baseline: str,
) -> list[Row]:
    """One row for each of `names`, timed or not, with the speed-up over `baseline`."""
    rows = []
    for name in names:
        measured, reference = latency.get(name), latency.get(baseline)
        speedup = reference.median / measured.median if reference and measured else None
        problem = problems.get(name)
        rows.append(Row(name, latency_ms=measured, speedup=speedup, problem=problem))
    return rows


def run_in_torch(workload: Workload) -> Run:
    """The model as it is."""
    return partial(workload.model, workload.channels_last)


def _compiled(workload: Workload) -> Run:
    return partial(torch.compile(workload.model, dynamic=False), workload.channels_last)


def _repq_fx(workload: Workload) -> Run:
    int8 = api.quantize(workload.model, workload.batches, workload.images, progress=False)
    return partial(int8, workload.channels_last)


def _onnx_runtime(workload: Workload, *, int8: bool) -> Run:
    with TemporaryDirectory() as folder:
        path = Path(folder, "float.onnx")
        onnxruntime.export(workload.model, workload.images, path)
        if int8:
            source, path = path, Path(folder, "int8.onnx")
            onnxruntime.quantize(source, path, workload.batches)
        return partial(onnxruntime.load(path, threads=workload.threads), workload.images)


def _openvino(workload: Workload, *, int8: bool) -> Run:
    model = openvino.convert(workload.model, workload.images)
    if int8:
        model = openvino.quantize(model, workload.batches)
    compiled = openvino.load(model, threads=workload.threads, float32=not int8)
    return partial(compiled, workload.images)


BASELINE = "FP32, torch"
CANDIDATES = (
    Candidate(BASELINE, "torch", run_in_torch),
    Candidate("FP32, torch.compile", "compile", _compiled),
    Candidate("FP32, ONNX Runtime", "onnxruntime", partial(_onnx_runtime, int8=False),
              onnxruntime.PACKAGES),
    Candidate("FP32, OpenVINO", "openvino", partial(_openvino, int8=False), ("openvino",)),
    Candidate("INT8, ONNX Runtime", "onnxruntime", partial(_onnx_runtime, int8=True),
              onnxruntime.PACKAGES),
    Candidate("INT8, OpenVINO", "openvino", partial(_openvino, int8=True), openvino.PACKAGES),
    Candidate("INT8, repq_fx", "repq_fx", _repq_fx),
)  # fmt: skip


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Exporters print and warn about themselves; the table is what the user asked for."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
