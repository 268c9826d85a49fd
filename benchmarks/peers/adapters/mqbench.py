"""MQBench: the settings of its own example for AdaRound, BRECQ and QDrop, fake quantization."""

from typing import Any

import mqbench
import torch
from mqbench.advanced_ptq import ptq_reconstruction
from mqbench.prepare_by_platform import BackendType, prepare_by_platform
from mqbench.utils.state import enable_calibration_woquantization, enable_quantization

from benchmarks.peers.job import Job, Quantized, serve
from benchmarks.peers.steps import count_steps

_CONFIGURATIONS = {
    "AdaRound": {"pattern": "layer", "prob": 1.0, "a_fakequantize": "FixedFakeQuantize"},
    "BRECQ": {"pattern": "block", "prob": 1.0, "a_fakequantize": "QDropFakeQuantize"},
    "QDrop": {"pattern": "block", "prob": 0.5, "a_fakequantize": "QDropFakeQuantize"},
}
_GRID = {"symmetry": False, "pot_scale": False, "p": 2.4}
_BATCH = 32


class _Options(dict):
    """Read by attribute and asked by key, as MQBench does both."""

    __getattr__ = dict.__getitem__


def quantize(job: Job) -> Quantized:
    settings = _CONFIGURATIONS[job.configuration]
    # The academic backend gives the first and the last layer 8 bits, as the papers do.
    scheme: dict[str, Any] = {
        "w_observer": "MSEObserver", "a_observer": "EMAMSEObserver",
        "w_fakequantize": "AdaRoundFakeQuantize", "a_fakequantize": settings["a_fakequantize"],
        "w_qscheme": {"bit": job.weight_bits, "per_channel": True, **_GRID},
        "a_qscheme": {"bit": job.activation_bits, "per_channel": False, **_GRID},
    }  # fmt: skip
    options = _Options(
        pattern=settings["pattern"], prob=settings["prob"], scale_lr=4e-5, warm_up=0.2,
        weight=0.01, max_count=job.iterations, b_range=[20, 2], keep_gpu=False,
        round_mode="learned_hard_sigmoid",
    )  # fmt: skip
    batches = list(job.calibration().split(_BATCH))
    model = prepare_by_platform(
        job.model(), BackendType.Academic, {"extra_qconfig_dict": dict(scheme)}
    ).eval()
    with torch.no_grad():
        enable_calibration_woquantization(model, quantizer_type="act_fake_quant")
        for batch in batches:
            model(batch)
        enable_calibration_woquantization(model, quantizer_type="weight_fake_quant")
        model(batches[0])
    with count_steps() as steps:
        model = ptq_reconstruction(model, batches, options)
    enable_quantization(model)
    record = {"backend": "Academic", **scheme, **options, "batch_size": _BATCH, **steps}
    return Quantized(model, record, "fake quantization")


if __name__ == "__main__":
    serve(mqbench.__version__, quantize)
