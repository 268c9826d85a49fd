"""ONNX Runtime on the CPU, to compare with: a model in FP32 and as its own tool quantizes it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What has to be installed."""


def export(model: nn.Module, images: Tensor, path: Path) -> None:
    """Write `model` as an ONNX file that takes images of exactly this shape."""
    torch.onnx.export(
        model, (images,), path, dynamo=True, external_data=False, verbose=False
    )  # fmt: skip


def quantize(source: Path, target: Path, batches: Iterable[Tensor]) -> None:
    """Quantize an FP32 file by ``quantize_static``: QDQ, a scale for each channel, min-max ranges.

    Unsigned activations and signed weights of full 8 bits are what its documentation recommends
    on x86 with VNNI instructions.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_name(f"{target.name}.prepared")
    quant_pre_process(source, prepared)
    quantize_static(
        prepared,
        target,
        _Reader(_input_name(prepared), batches),
        quant_format=QuantFormat.QDQ,
        calibrate_method=CalibrationMethod.MinMax,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=False,
    )


def load(path: Path, *, threads: int) -> Callable[[Tensor], list[Any]]:
    """The file's function, from contiguous images to numpy arrays, on `threads` threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Its threads would go on spinning after a call, beside whatever is timed next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images.numpy()})


class _Reader:
    """Calibration batches one after the other, as ``quantize_static`` asks for them."""

    def __init__(self, name: str, batches: Iterable[Tensor]) -> None:
        self._feeds = iter([{name: batch.numpy()} for batch in batches])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def _input_name(path: Path) -> str:
    import onnx

    name: str = onnx.load(path).graph.input[0].name
    return name
