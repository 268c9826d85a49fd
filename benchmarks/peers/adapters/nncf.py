"""NNCF: `nncf.quantize` of an OpenVINO model, run by OpenVINO's integer kernels."""

import nncf
import openvino
import torch
from nncf.quantization.advanced_parameters import OverflowFix, QuantizationParameters
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from torch import Tensor

from benchmarks.peers.job import Job, Quantized, serve

# NNCF's defaults, which average each image's range, then what its documentation offers against a
# loss of accuracy. The overflow fix halves weight ranges for processors without VNNI.
_ACCURATE = {
    "preset": "mixed", "fast_bias_correction": False, "overflow_fix": "disable",
    "channel_alignment": True,
}  # fmt: skip
_CONFIGURATIONS = {
    "default": {},
    "min-max": {"overflow_fix": "disable", "activation_ranges": "MINMAX"},
    "accurate, min-max": _ACCURATE | {"activation_ranges": "MINMAX"},
    "accurate, histogram": _ACCURATE | {"activation_ranges": "HISTOGRAM"},
}


def quantize(job: Job) -> Quantized:
    settings = _CONFIGURATIONS[job.configuration]
    calibration = job.calibration()
    model = openvino.convert_model(
        job.model(), example_input=calibration[:1], input=[-1, 3, -1, -1]
    )
    advanced = nncf.AdvancedQuantizationParameters(
        weights_quantization_params=QuantizationParameters(num_bits=job.weight_bits),
        activations_quantization_params=QuantizationParameters(num_bits=job.activation_bits),
    )
    if "overflow_fix" in settings:
        advanced.overflow_fix = OverflowFix(settings["overflow_fix"])
    if settings.get("channel_alignment"):
        advanced.disable_channel_alignment = False
    if "activation_ranges" in settings:
        ranges = getattr(RangeEstimatorParametersSet, settings["activation_ranges"])
        advanced.activations_range_estimator_params = ranges
    # Only this target has convolutions with 4-bit weights; the CPU runs them as float.
    device = nncf.TargetDevice.NPU if job.weight_bits < 8 else nncf.TargetDevice.CPU
    quantized = nncf.quantize(
        model,
        nncf.Dataset([image.numpy() for image in calibration.split(1)]),
        preset=nncf.QuantizationPreset(settings["preset"]) if "preset" in settings else None,
        subset_size=len(calibration),
        fast_bias_correction=settings.get("fast_bias_correction", True),
        target_device=device,
        advanced_parameters=advanced,
    )
    # Without the hint, float layers would run in bfloat16 on processors that have it.
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.compile_model(quantized, "CPU", hints)

    def predict(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled(images.numpy())[0].copy())

    record = {"target_device": device.value, "subset_size": len(calibration), **settings}
    return Quantized(predict, record, f"OpenVINO {openvino.__version__}, CPU")


if __name__ == "__main__":
    serve(nncf.__version__, quantize)
