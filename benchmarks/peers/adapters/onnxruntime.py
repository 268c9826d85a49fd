"""ONNX Runtime: `quantize_static`, run by its own integer kernels on the CPU."""

from pathlib import Path

import onnxruntime
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
    save_tensors_data,
)
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from benchmarks.peers.job import Job, Quantized, serve

# With its default of 128 bins for 128 levels the entropy search has no choice and gives min-max;
# the default percentile of 99.999 came within 0.1 dB of min-max on CIFAR-10.
_CONFIGURATIONS = {
    "min-max": {"method": "MinMax"},
    "entropy, 1024 bins": {"method": "Entropy", "num_bins": 1024, "num_quantized_bins": 128},
    "percentile 99.99": {"method": "Percentile", "percentile": 99.99},
}
_WEIGHT_TYPES = {8: QuantType.QInt8, 4: QuantType.QInt4}


class _Images(CalibrationDataReader):
    """One image at a time, as ONNX Runtime asks for them."""

    def __init__(self, images: Tensor):
        self._images = iter(images.split(1))

    def get_next(self):
        image = next(self._images, None)
        return None if image is None else {"image": image.numpy()}


def _calibrate(model: str, images: Tensor, settings: dict, ranges: str) -> None:
    """Write the ranges that `quantize_static` reads; itself it does not pass on the bins."""
    calibrator = create_calibrator(
        model, augmented_model_path=ranges + ".onnx",
        calibrate_method=CalibrationMethod[settings["method"]],
        extra_options={name: value for name, value in settings.items() if name != "method"},
    )  # fmt: skip
    calibrator.collect_data(_Images(images))
    save_tensors_data(calibrator.compute_data(), ranges)


def quantize(job: Job) -> Quantized:
    settings = _CONFIGURATIONS[job.configuration]
    names = ("float.onnx", "prepared.onnx", "quantized.onnx")
    float_path, prepared_path, path = (str(Path(job.folder, name)) for name in names)
    calibration = job.calibration()
    sizes = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        job.model(), (calibration[:1],), float_path, input_names=["image"],
        output_names=["output"], dynamic_axes={"image": sizes}, opset_version=17, dynamo=False,
    )  # fmt: skip
    quant_pre_process(float_path, prepared_path, skip_symbolic_shape=True)
    ranges = str(Path(job.folder, "ranges.json"))
    _calibrate(prepared_path, calibration, settings, ranges)
    types = {
        "activation_type": QuantType.QUInt8, "weight_type": _WEIGHT_TYPES[job.weight_bits],
    }  # fmt: skip
    layout = {"quant_format": QuantFormat.QDQ, "per_channel": True, "reduce_range": False}
    quantize_static(
        prepared_path, path, calibration_cache_path=ranges,
        calibrate_method=CalibrationMethod[settings["method"]], **layout, **types,
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def predict(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"image": images.numpy()})[0])

    record = settings | {name: str(value) for name, value in (layout | types).items()}
    return Quantized(predict, record, "ONNX Runtime, CPU")


if __name__ == "__main__":
    serve(onnxruntime.__version__, quantize)
