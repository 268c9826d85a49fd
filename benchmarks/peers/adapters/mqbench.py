"""MQBench: the settings of its own example for AdaRound, BRECQ and QDrop, fake quantization."""

from typing import Any

import mqbench
import torch
from mqbench.advanced_ptq import ptq_reconstruction
from mqbench.fake_quantize import AdaRoundFakeQuantize
from mqbench.fake_quantize.quantize_base import QuantizeBase
from mqbench.prepare_by_platform import BackendType, prepare_by_platform
from mqbench.utils.state import enable_calibration_woquantization, enable_quantization
from torch import nn

from benchmarks.peers.job import Job, Quantized, serve
from benchmarks.peers.steps import count_steps

_METHODS = {
    "AdaRound": {"pattern": "layer", "prob": 1.0, "a_fakequantize": "FixedFakeQuantize"},
    "BRECQ": {"pattern": "block", "prob": 1.0, "a_fakequantize": "QDropFakeQuantize"},
    "QDrop": {"pattern": "block", "prob": 0.5, "a_fakequantize": "QDropFakeQuantize"},
}
# The academic backend gives the first and the last layer 8 bits, as the methods' papers do and no
# other tool does.
_CONFIGURATIONS = {name: {**method, "every_layer": False} for name, method in _METHODS.items()} | {
    f"{name}, every layer": {**method, "every_layer": True} for name, method in _METHODS.items()
}
_GRID = {"symmetry": False, "pot_scale": False, "p": 2.4}
_BATCH = 32


class _Options(dict):
    """Read by attribute and asked by key, as MQBench does both."""

    __getattr__ = dict.__getitem__


def _narrow_every_layer(model: nn.Module, job: Job) -> None:
    """Take the 8 bits of the first and the last layer, and of what they read, to the job's."""
    for module in model.modules():
        if isinstance(module, QuantizeBase):
            is_weight = isinstance(module, AdaRoundFakeQuantize)
            bits = job.weight_bits if is_weight else job.activation_bits
            for holder in (module, module.activation_post_process):
                holder.quant_max = 2**bits - 1


def quantize(job: Job) -> Quantized:
    settings = _CONFIGURATIONS[job.configuration]
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
    if settings["every_layer"]:
        _narrow_every_layer(model, job)
    with torch.no_grad():
        enable_calibration_woquantization(model, quantizer_type="act_fake_quant")
        for batch in batches:
            model(batch)
        enable_calibration_woquantization(model, quantizer_type="weight_fake_quant")
        model(batches[0])
    with count_steps() as steps:
        model = ptq_reconstruction(model, batches, options)
    enable_quantization(model)
    record = {
        "backend": "Academic", "every_layer": settings["every_layer"], **scheme, **options,
        "batch_size": _BATCH, **steps,
    }  # fmt: skip
    return Quantized(model, record, "fake quantization")


if __name__ == "__main__":
    serve(mqbench.__version__, quantize)
