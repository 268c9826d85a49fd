"""The two ends of the pipe between us and a tool: folders of arrays and JSON, no shared packages.

A data folder holds ``weights.pt``, ``calibration.npy`` and ``images.npz`` (one array of images to
an entry, of its own size). A job folder holds ``job.json``; the tool adds ``outputs.npz`` with an
entry for each of the images, and ``result.json``.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.peers.networks import NETWORKS


@dataclass(frozen=True)
class Job:
    """One quantization: what, with which of the tool's configurations, and how narrow.

    Attributes:
        iterations: Gradient steps for each layer or block, where the configuration takes any.
    """

    folder: str
    data: str
    network: str
    configuration: str
    weight_bits: int
    activation_bits: int
    iterations: int = 0

    def write(self) -> None:
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        Path(self.folder, "job.json").write_text(json.dumps(asdict(self), indent=2))

    def model(self) -> nn.Module:
        """The float network in evaluation mode."""
        model = NETWORKS[self.network]()
        state = torch.load(Path(self.data, "weights.pt"), map_location="cpu", weights_only=True)
        model.load_state_dict(state)
        return model.eval()

    def calibration(self) -> Tensor:
        return torch.from_numpy(np.load(Path(self.data, "calibration.npy")))

    def images(self) -> Iterator[tuple[str, Tensor]]:
        with np.load(Path(self.data, "images.npz")) as file:
            for name in file.files:
                yield name, torch.from_numpy(file[name])

    def outputs(self) -> list[Tensor]:
        """What the tool wrote, in the order of the images."""
        with np.load(Path(self.folder, "outputs.npz")) as file:
            return [torch.from_numpy(file[name]) for name in file.files]

    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(Path(self.folder, "result.json").read_text())
        return result


@dataclass(frozen=True)
class Quantized:
    """What a tool made.

    Attributes:
        predict: Maps float images to float outputs.
        settings: What the tool was told beside its defaults, for the record; with the entries of
            `steps.count_steps` where it made gradient steps.
        engine: What computes the outputs.
    """

    predict: Callable[[Tensor], Tensor]
    settings: dict[str, Any]
    engine: str


def serve(version: str, quantize: Callable[[Job], Quantized]) -> None:
    """The main program of an adapter: quantize the job that the command line names."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    job = Job(**json.loads(Path(sys.argv[1], "job.json").read_text()))
    start = time.perf_counter()
    quantized = quantize(job)
    seconds = time.perf_counter() - start
    with torch.no_grad():
        outputs = {name: quantized.predict(images).numpy() for name, images in job.images()}
    np.savez(Path(job.folder, "outputs.npz"), **outputs)
    result = {
        "version": version,
        "settings": quantized.settings,
        "engine": quantized.engine,
        "seconds": seconds,
    }
    Path(job.folder, "result.json").write_text(json.dumps(result, indent=2))
