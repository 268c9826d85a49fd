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
from benchmarks.publish import protocol_report, publish
from repq_fx import analysis
from repq_fx.analysis.peak_memory import PeakMemory
from repq_fx.analysis.report import Column, Columns, Row, decimals
from repq_fx.cli.image_data import Preprocessing, open_images

_SETS = 3


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.0f}"


def _mean(values: list[float]) -> str:
    """Of all sets of calibration images."""
    return f"{statistics.mean(values):.2f}"


COLUMNS: Columns = (
    Column("name", "network, width, how"),
    Column("passes", "forward\npasses", decimals(1)),
    Column("seconds", "seconds of\none core", decimals(1)),
    # The most that was held above what the process held before.
    Column("peak_bytes", "memory\nMiB", _mebibytes),
    Column("sqnr_db", "SQNR\ndB", _mean),
    Column("agreement", "agrees\n%", _mean),
)


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
        tqdm.write(str(rows[-1]))
    protocol = "32 images of 224 x 224 (CIFAR: 256 of 32 x 32) calibrate"
    publish("quantize_1t", protocol_report(protocol, COLUMNS, rows))


def measure(data: Path, network: str, name: str, fast: bool) -> Row:  # noqa: FBT001
    """Quantize one network with every set of images."""
    torch.set_num_threads(1)
    workload, scheme = WORKLOADS[network](data), repq_fx.Scheme.from_name(name)
    model, first = workload.model, workload.calibration[0]
    # What is imported and set up once.
    repq_fx.quantize(model, first[:2], scheme=scheme, fast=fast, progress=False)
    merged = repq_fx.reparameterize(model, first[:2])
    outputs = _outputs(merged, workload.judged)
    memory = PeakMemory()
    seconds, quantized = [], []
    for images in workload.calibration:
        start = time.process_time()
        int8 = repq_fx.quantize(model, images, scheme=scheme, fast=fast, progress=False)
        seconds.append(time.process_time() - start)
        quantized.append(int8)
    peak = memory.bytes_above_start()
    scores = [_outputs(int8, workload.judged) for int8 in quantized]
    duration = statistics.median(seconds)
    return Row(
        f"{network} {name}{' fast' if fast else ''}",
        passes=duration / _forward_seconds(merged, first),
        seconds=duration,
        peak_bytes=peak,
        sqnr_db=[analysis.sqnr_db(outputs, each) for each in scores],
        agreement=[analysis.agreement(outputs, each) for each in scores],
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
