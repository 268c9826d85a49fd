"""OpenVINO on the CPU, to compare with: a model in FP32 and as NNCF quantizes it."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

PACKAGES = ("openvino", "nncf")
"""What has to be installed; nncf for `quantize` only."""


def convert(model: nn.Module, images: Tensor) -> Any:
    """The ``openvino.Model`` of `model`, for images of exactly this shape."""
    import openvino

    return openvino.convert_model(model, example_input=images, input=list(images.shape))


def quantize(model: Any, batches: Iterable[Tensor]) -> Any:
    """Quantize an ``openvino.Model`` by ``nncf.quantize`` with its preset for performance."""
    import nncf

    data = [batch.numpy() for batch in batches]
    return nncf.quantize(
        model,
        nncf.Dataset(data),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        subset_size=len(data),
    )


def load(model: Any, *, threads: int, float32: bool) -> Callable[[Tensor], Any]:
    """The model's function, from contiguous images to its outputs, on `threads` threads.

    Args:
        model: An ``openvino.Model``.
        threads: As OpenVINO's INFERENCE_NUM_THREADS.
        float32: Whether float layers stay FP32 where the processor has a narrower type.
    """
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if float32:
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = openvino.compile_model(model, "CPU", settings)
    return lambda images: compiled(images.numpy())
