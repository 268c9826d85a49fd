"""What becomes of one network: FP32 in three runtimes, NNCF's and ours, each a function."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import repq_fx
from benchmarks.peers.text_networks_data import CALIBRATION_IMAGES, JUDGES, Sources, TextNetwork
from benchmarks.peers.text_networks_onnx import fold, to_torch
from repq_fx import Scheme, analysis
from repq_fx.integrations import onnxruntime, openvino
from repq_fx.reconstruct import RepAPQ


@dataclass(frozen=True)
class NncfSettings:
    """Of ``nncf.quantize``, by its own names; the rest as it is by default."""

    preset: str
    fast_bias_correction: bool = True
    model_type: str | None = None


_NNCF = {
    "performance": NncfSettings("performance"),
    "mixed, full bias correction": NncfSettings("mixed", fast_bias_correction=False),
}
_NNCF_ATTENTION = {
    "mixed, full bias correction, transformer": NncfSettings("mixed", False, "transformer"),
}
_OURS: dict[str, dict[str, Any]] = {
    "W8A8": {},
    "W8A8, fast=True": {"fast": True},
    "W8A8, vanilla": {"scheme": Scheme.vanilla()},
    "W6A6": {"scheme": Scheme.w6a6()},
}
_LEARNED: dict[str, dict[str, Any]] = {
    "W6A6, RepAPQ": {
        "scheme": Scheme.w6a6(), "reconstruction": RepAPQ(iterations=400, batch_size=8),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """A network that runs.

    Attributes:
        predict: From one image to an array, a tensor or a list of one.
        memory_format: Of the image.
        quantize_seconds: Of one core.
        float_operations: What of ours does not run in integers.
    """

    predict: Callable[[Tensor], Any]
    memory_format: torch.memory_format = torch.contiguous_format
    quantize_seconds: float | None = None
    float_operations: str | None = None

    def outputs(self, images: Tensor) -> Tensor:
        """For each image by itself, as it is timed."""
        with torch.inference_mode():
            return torch.cat([_tensor(self.call(image)()) for image in images.split(1)])

    def call(self, image: Tensor) -> Callable[[], Any]:
        """One inference, of an image ``[1, C, H, W]`` that already lies as it is read."""
        return partial(self.predict, image.contiguous(memory_format=self.memory_format))


@dataclass(frozen=True)
class Task:
    """One network, as a file and as a module, with its images.

    Attributes:
        published: The file of the wheel.
        folded: The same for images of this one size, from which all forms are made.
        model: What `folded` computes.
    """

    network: TextNetwork
    published: Path
    folded: Path
    model: nn.Module
    calibration: Tensor
    judges: Tensor

    @staticmethod
    def of(network: TextNetwork, sources: Sources, folder: Path) -> "Task":
        published, folded = folder / "published.onnx", folder / "folded.onnx"
        published.write_bytes(network.content(sources))
        images = network.images(sources)
        folded.write_bytes(fold(published.read_bytes(), tuple(images[:1].shape)))
        model = to_torch(folded.read_bytes(), images[:1]).to(memory_format=torch.channels_last)
        return Task(network, published, folded, model, *images.split((CALIBRATION_IMAGES, JUDGES)))

    def reference(self) -> Tensor:
        """What the published file gives for the images that judge."""
        return Form(onnxruntime.load(self.published, threads=1)).outputs(self.judges)

    def forms(self) -> Iterator[tuple[str, Callable[[], Form]]]:
        """Names and makers, in the order of the table."""
        yield "FP32, torch", lambda: Form(self.model, torch.channels_last)
        yield "FP32, ONNX Runtime", lambda: Form(onnxruntime.load(self.folded, threads=1))
        yield "FP32, OpenVINO", lambda: _in_openvino(str(self.folded), float32=True)
        theirs = _NNCF | _NNCF_ATTENTION if self.network.attends else _NNCF
        for name, settings in theirs.items():
            quantized = cache(partial(_by_nncf, self, settings))
            yield f"NNCF, {name}", partial(_run_nncf, quantized, float32=True)
            yield f"NNCF, {name}, bfloat16", partial(_run_nncf, quantized, float32=False)
        ours = _OURS | _LEARNED if self.network.learns else _OURS
        for name, settings in ours.items():
            yield f"repq_fx, {name}", partial(_by_us, self, settings)


def _in_openvino(model: Any, *, float32: bool, seconds: float | None = None) -> Form:
    compiled = openvino.load(model, threads=1, float32=float32)
    return Form(lambda image: compiled(image)[0], quantize_seconds=seconds)


def _by_nncf(task: Task, settings: NncfSettings) -> tuple[Any, float]:
    import nncf
    from openvino import Core

    start = time.process_time()
    quantized = nncf.quantize(
        Core().read_model(task.folded),
        nncf.Dataset([image.numpy() for image in task.calibration.split(1)]),
        subset_size=CALIBRATION_IMAGES,
        preset=nncf.QuantizationPreset(settings.preset),
        fast_bias_correction=settings.fast_bias_correction,
        model_type=nncf.ModelType(settings.model_type) if settings.model_type else None,
    )
    return quantized, time.process_time() - start


def _run_nncf(quantized: Callable[[], tuple[Any, float]], *, float32: bool) -> Form:
    model, seconds = quantized()
    return _in_openvino(model, float32=float32, seconds=seconds)


def _by_us(task: Task, settings: dict[str, Any]) -> Form:
    start = time.process_time()
    quantized = repq_fx.quantize(task.model, task.calibration, progress=False, **settings)
    seconds = time.process_time() - start
    counts = analysis.float_operations(quantized).items()
    floats = ", ".join(f"{count} {operation}" for operation, count in counts)
    return Form(quantized, torch.channels_last, seconds, floats or None)


def _tensor(output: Any) -> Tensor:
    output = output[0] if isinstance(output, list) else output
    return output if isinstance(output, Tensor) else torch.from_numpy(np.array(output))
