"""Time and memory to quantize, and what `fast` loses: `python -m benchmarks.speed.quantize`.

Time is counted in forward passes: the processor's time to quantize by that of the merged FP32
network on the calibration images, on one thread. Every network is quantized in a process of its own
with several sets of images, and judged on images of which none calibrates.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

import repq_fx
from benchmarks.accuracy import cifar10, mobileone
from repq_fx import analysis
from repq_fx.analysis.report.rows import write_json
from repq_fx.cli.image_data import Preprocessing, open_images

RESULTS = Path(__file__).parents[1] / "results"
_SETS = 3


@dataclass(frozen=True)
class Result:
    """Of one network, width and way.

    Attributes:
        name: Network, width, and how it was quantized.
        passes: Time to quantize, in forward passes.
        seconds: The same in seconds of one core.
        peak_bytes: Most memory that was held above what the process held before.
        sqnr_db: For each set of calibration images.
        agreement: The same, in percent.
    """

    name: str
    passes: float
    seconds: float
    peak_bytes: int
    sqnr_db: list[float]
    agreement: list[float]


@dataclass(frozen=True)
class Workload:
    """A network, sets of images that calibrate, and others that judge."""

    model: nn.Module
    calibration: list[Tensor]
    judged: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--networks", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--schemes", nargs="+", default=["w8a8", "w6a6"])
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        parser.error(f"there is no folder {str(arguments.data)!r}; see benchmarks/README.md")
    jobs = [
        (network, scheme, fast)
        for network in arguments.networks
        for scheme in arguments.schemes
        for fast in (False, True)
    ]
    rows = []
    for job in tqdm(jobs, unit="job"):
        # A process for each, or one would hold what another has left.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            rows.append(pool.submit(measure, arguments.data, *job).result())
        row = rows[-1]
        tqdm.write(
            f"{row.name}: {row.passes:.1f} passes, {row.seconds:.1f} s, "
            f"{row.peak_bytes / 2**20:.0f} MiB, {statistics.mean(row.sqnr_db):.2f} dB, "
            f"{statistics.mean(row.agreement):.2f} %"
        )
    write_json(
        RESULTS / "quantize_1t.json",
        rows,
        protocol="32 images of 224 x 224 (CIFAR: 256 of 32 x 32) calibrate",
    )


def measure(data: Path, network: str, name: str, fast: bool) -> Result:  # noqa: FBT001
    """Quantize one network with every set of images."""
    torch.set_num_threads(1)
    workload, scheme = WORKLOADS[network](data), repq_fx.Scheme.from_name(name)
    model, first = workload.model, workload.calibration[0]
    # What is imported and set up once.
    repq_fx.quantize(model, first[:2], scheme=scheme, fast=fast, progress=False)
    merged = repq_fx.reparameterize(model, first[:2])
    outputs = _outputs(merged, workload.judged)
    held = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Resets the high-water mark.
    seconds, quantized = [], []
    for images in workload.calibration:
        start = time.process_time()
        int8 = repq_fx.quantize(model, images, scheme=scheme, fast=fast, progress=False)
        seconds.append(time.process_time() - start)
        quantized.append(int8)
    peak = _resident("VmHWM") - held
    scores = [_outputs(int8, workload.judged) for int8 in quantized]
    duration = statistics.median(seconds)
    return Result(
        f"{network} {name}{' fast' if fast else ''}",
        duration / _forward_seconds(merged, first),
        duration,
        peak,
        [analysis.sqnr_db(outputs, each) for each in scores],
        [analysis.agreement(outputs, each) for each in scores],
    )


def _forward_seconds(model: nn.Module, images: Tensor) -> float:
    times = []
    with torch.inference_mode():
        for _ in range(6):
            start = time.process_time()
            model(images)
            times.append(time.process_time() - start)
    return statistics.median(times[1:])


def _outputs(model: nn.Module, images: Tensor) -> Tensor:
    return analysis.predict(model, images.split(50), progress=False)


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _mobileone_s0(data: Path) -> Workload:
    task = mobileone.load_task(data)
    sets = list(task.images.split(32))[:_SETS]
    return Workload(task.model, sets, task.images[32 * _SETS : 32 * _SETS + 300])


def _cifar_repvgg(data: Path) -> Workload:
    task = cifar10.load_task(data)
    return Workload(task.model, list(task.images[2000:].split(256))[:_SETS], task.images[:2000])


def _resnet18(data: Path) -> Workload:
    """With random weights and the statistics that they give."""
    from torchvision.models import resnet18

    images = open_images(data / "imagenet_sample" / "images.npz", Preprocessing())
    images = torch.cat(list(images.batches(32 * _SETS + 100)))
    torch.manual_seed(0)
    model = resnet18()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0.0, 0.3)
    with torch.no_grad():
        for _ in range(8):
            model(images[-50:])
    sets = list(images.split(32))[:_SETS]
    return Workload(model.eval(), sets, images[32 * _SETS :])


WORKLOADS: dict[str, Callable[[Path], Workload]] = {
    "mobileone_s0": _mobileone_s0,
    "cifar_repvgg": _cifar_repvgg,
    "resnet18": _resnet18,
}


if __name__ == "__main__":
    main()
