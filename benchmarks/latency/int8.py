"""INT8 beside FP32 and other runtimes: `python -m benchmarks.latency.int8 [--networks ...]`.

What `repq bench` compares, and beside it ours without weight splitting and torch's own FX mode.
Other runtimes: `pip install ".[bench]"`; one that is absent or fails is a row that says why.
"""

import argparse
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from benchmarks.accuracy.mobileone_s0 import mobileone_s0
from benchmarks.accuracy.repvgg_imagenet import WIDTHS_AND_DEPTHS
from benchmarks.publish import publish
from repq_fx import PerChannel, Scheme, analysis, quantize
from repq_fx.analysis.report import MODEL_COLUMNS, Report
from repq_fx.cli.model_source import load_weights
from repq_fx.cli.runtimes import (
    BASELINE,
    CANDIDATES,
    Candidate,
    Run,
    Workload,
    build_all,
    latency_rows,
)
from repq_fx.models import RepVGG
from repq_fx.passes import merge_graph

_CALIBRATION_IMAGES = 8
# Off, what only changes numbers: with it, MobileOne-S0 has as many split layers.
_QUICK = Scheme(gptq=False, output_search=False, sequential_ranges=False, bias_correction=False)
OURS = {
    "INT8, repq_fx": _QUICK,
    "INT8, repq_fx, nothing split": replace(_QUICK, weight=PerChannel()),
}


@dataclass(frozen=True)
class Network:
    """A float model and its input.

    Attributes:
        build: Makes the model, given the folder of weights.
        side: Of the image, in pixels.
        rounds: Share of ``--repeats``, less for what takes long.
    """

    build: Callable[[Path], nn.Module]
    side: int = 224
    rounds: float = 1.0


def _mobileone(weights: Path) -> nn.Module:
    model = mobileone_s0()
    load_weights(model, weights / "mobileone_s0_imagenet_deploy.pt")
    return model.eval()


def _repvgg(_: Path, name: str) -> nn.Module:
    """With random weights, of which the default splits every 3x3 convolution."""
    return RepVGG(*WIDTHS_AND_DEPTHS[name], classes=1000).eval()


class _Detector(nn.Module):
    """A detector up to its head's own boxes and scores, before they are decoded and selected."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.detector(image)[1]
        return raw["boxes"], raw["scores"]


def _yolov9t(weights: Path) -> nn.Module:
    os.environ.setdefault("YOLO_CONFIG_DIR", "/tmp/yolo")
    from ultralytics import YOLO

    return _Detector(YOLO(weights / "yolov9t_coco128.pt").model.float()).eval()


NETWORKS = {
    "mobileone_s0": Network(_mobileone),
    "repvgg_a0": Network(partial(_repvgg, name="repvgg_a0")),
    "repvgg_b1": Network(partial(_repvgg, name="repvgg_b1"), rounds=0.3),
    "yolov9t": Network(_yolov9t, side=320),
}


@dataclass
class _Quantized:
    """Models that are quantized once for all batch sizes and threads.

    Attributes:
        layers: Kinds of layers of each of ours, by name of the candidate.
    """

    model: nn.Module
    calibration: Tensor
    layers: dict[str, dict[str, int]] = field(default_factory=dict)

    def candidates(self) -> tuple[Candidate, ...]:
        torch_fx = cache(self._by_torch)
        ours = [
            Candidate(name, "repq_fx", partial(_run, cache(partial(self._by_us, name, scheme))))
            for name, scheme in OURS.items()
        ]
        return (
            Candidate("INT8, torch FX", "torch_fx", partial(_run, torch_fx)),
            Candidate("INT8, torch FX, TorchScript", "torch_fx", partial(_run_script, torch_fx)),
            *ours,
        )

    def _by_us(self, name: str, scheme: Scheme) -> nn.Module:
        int8 = quantize(self.model, self.calibration, scheme=scheme, progress=False)
        leaves = (module for module in int8.modules() if not list(module.children()))
        self.layers[name] = dict(Counter(type(module).__name__ for module in leaves))
        return int8

    @torch.no_grad()
    def _by_torch(self) -> nn.Module:
        torch.backends.quantized.engine = "onednn"
        example = (self.calibration[:1],)
        prepared = prepare_fx(self.model, get_default_qconfig_mapping("onednn"), example)
        prepared(self.calibration)
        return convert_fx(prepared)


def _run(model: Callable[[], nn.Module], workload: Workload) -> Run:
    return partial(model(), workload.channels_last)


@torch.no_grad()
def _run_script(model: Callable[[], nn.Module], workload: Workload) -> Run:
    images = workload.channels_last
    return partial(torch.jit.freeze(torch.jit.trace(model(), images)), images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default_data = Path(__file__).parents[2].parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default_data)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    for name in arguments.networks:
        network = NETWORKS[name]
        torch.manual_seed(0)
        try:
            model = network.build(arguments.data / "weights")
        except Exception as error:  # No weights or no ultralytics: the others can still be timed.
            print(f"{name} is left out: {error}")
            continue
        images = torch.randn(_CALIBRATION_IMAGES, 3, network.side, network.side)
        merged = merge_graph(model, images[:1]).to(memory_format=torch.channels_last)
        quantized = _Quantized(merged, images)
        repeats = round(network.rounds * arguments.repeats)
        for threads, batch in product(arguments.threads, arguments.batches):
            measure(name, quantized, threads, batch, repeats)


def measure(name: str, quantized: _Quantized, threads: int, batch: int, repeats: int) -> None:
    """One table and its file."""
    images = quantized.calibration
    # A calibration of whole batches of the timed size, see `Workload`.
    calibration = images.repeat(-(-batch // len(images)), 1, 1, 1)
    calibration = calibration[: len(calibration) // batch * batch]
    workload = Workload(quantized.model, calibration[:batch], calibration, threads)
    others = (candidate for candidate in CANDIDATES if candidate.runtime != "repq_fx")
    candidates = (*others, *quantized.candidates())
    runs, problems = build_all(candidates, workload)
    latency = analysis.measure_latency(runs, repeats=repeats, threads=threads, progress=True)
    names = [candidate.name for candidate in candidates]
    rows = latency_rows(names, latency, problems, baseline=BASELINE)
    side = images.shape[-1]
    protocol = (
        f"{name}, {side}x{side}, batch {batch}, {threads} thread(s), {repeats} rounds in turns"
    )
    context = {
        "protocol": protocol, "threads": threads, "batch": batch, "layers": quantized.layers,
    }  # fmt: skip
    report = Report(protocol, MODEL_COLUMNS, rows, context)
    publish(f"int8_latency_{name}_{threads}t_b{batch}", report)


if __name__ == "__main__":
    main()
