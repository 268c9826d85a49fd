"""Brevitas: the functions of its own post-training example, which its package ships."""

import importlib.metadata
from argparse import Namespace
from functools import partial
from typing import Any

import torch
from brevitas.graph.quantize import preprocess_for_quantize
from brevitas_examples.common.learned_round.learned_round_method import RoundRegularisationLoss
from brevitas_examples.common.learned_round.learned_round_trainer import (
    LearnedRoundTrainer,
    get_blocks,
)
from brevitas_examples.imagenet_classification.ptq.learned_round_utils import (
    CacheVision,
    is_layer,
    parse_args_to_dataclass,
    vision_block_forward,
    vision_forward,
)
from brevitas_examples.imagenet_classification.ptq.ptq_common import (
    apply_bias_correction,
    apply_gptq,
    calibrate,
    quantize_model,
)

from benchmarks.peers.job import Job, Quantized, serve
from benchmarks.peers.steps import count_steps

# The example's defaults, but for weight scales per channel; then its backend that quantizes every
# layer's input, the only one for asymmetric activations that are multiplied.
_DEFAULT = {"backend": "fx", "act_quant_type": "sym", "act_param_method": "stats"}
_LAYERWISE = {"backend": "layerwise", "act_quant_type": "asym", "act_param_method": "stats"}
_CONFIGURATIONS = {
    "default": _DEFAULT,
    "CLE, bias correction": _LAYERWISE | {"cle": True, "bias_correction": True},
    "CLE, bias correction, MSE": _LAYERWISE
    | {"cle": True, "bias_correction": True, "act_param_method": "mse"},
    "GPTQ, bias correction": _LAYERWISE | {"gptq": True, "bias_correction": True},
    "CLE, GPTQ, bias correction": _LAYERWISE | {"cle": True, "gptq": True, "bias_correction": True},
    "learned round": _LAYERWISE | {"learned_round": "hard_sigmoid", "bias_correction": True},
}
# Merged kernels have one large positive weight, for which a symmetric grid of 4 bits is coarse.
_CONFIGURATIONS |= {
    f"asymmetric MSE, {name}": _CONFIGURATIONS[name]
    | {"weight_quant_type": "asym", "weight_param_method": "mse"}
    for name in ("GPTQ, bias correction", "learned round")
}
_STEPS = ("cle", "gptq", "learned_round", "bias_correction")


def _learn_rounding(model: torch.nn.Module, loader: list, job: Job, kind: str) -> dict[str, Any]:
    """`apply_learned_round` with its defaults, but for steps, batch and precision.

    It would take one image a step, a schedule of 1000 steps whatever their number, and half
    precision: slow on processors, where its gradient scaler also leaves steps out.
    """
    options = {
        "learned_round": kind, "learned_round_loss": "regularised_mse", "learned_round_lr": 1e-3,
        "learned_round_lr_scheduler": None, "learned_round_batch_size": 32,
        "learned_round_iters": job.iterations,
    }  # fmt: skip
    config = parse_args_to_dataclass(Namespace(**options))
    config.training_args.use_amp = False
    for loss in config.training_args.losses_args:
        if loss.cls is RoundRegularisationLoss:
            loss.kwargs = {"max_count": job.iterations}
    with torch.enable_grad(), count_steps() as steps:
        LearnedRoundTrainer(config).train(
            model, vision_forward, vision_block_forward, loader, CacheVision(),
            partial(get_blocks, block_check_fn=is_layer),
        )  # fmt: skip
    return {**options, "learned_round_mode": "layerwise", "use_amp": False, **steps}


def quantize(job: Job) -> Quantized:
    settings = _CONFIGURATIONS[job.configuration]
    calibration = job.calibration()
    loader = [(batch, None) for batch in calibration.split(8)]  # It expects labels, and drops them.
    with torch.no_grad():
        model = preprocess_for_quantize(
            job.model(), equalize_iters=20 if settings.get("cle") else 0, equalize_merge_bias=True
        )
        options = {name: value for name, value in settings.items() if name not in _STEPS} | {
            "weight_bit_width": job.weight_bits, "act_bit_width": job.activation_bits,
            # One number for weights and activations, so W4A8 has 8-bit weights in these layers.
            "layerwise_first_last_bit_width": job.activation_bits, "bias_bit_width": 32,
            "weight_quant_granularity": "per_channel", "act_quant_percentile": 99.999,
            "scale_factor_type": "float_scale", "quant_format": "int",
        }  # fmt: skip
        model = quantize_model(model, **options)
        model.eval()
        model(loader[0][0])  # Initializes the weight scales, as the example's main program does.
        calibrate(loader, model)
        if settings.get("gptq"):
            with count_steps() as steps:  # None, but for the time.
                apply_gptq(loader, model, act_order=True)
            options["reconstruction_seconds"] = steps["reconstruction_seconds"]
        if settings.get("learned_round"):
            options |= _learn_rounding(model, loader, job, settings["learned_round"])
        if settings.get("bias_correction"):
            apply_bias_correction(loader, model)

    def predict(images):
        output = model(images)
        return getattr(output, "value", output)  # A QuantTensor where the last layer is quantized.

    return Quantized(predict, {**settings, **options}, "fake quantization")


if __name__ == "__main__":
    serve(importlib.metadata.version("brevitas"), quantize)
