"""AIMET: `QuantizationSimModel` after equalization or AdaRound, fake quantization."""

from typing import Any

import aimet_torch
import torch
from aimet_torch.adaround.adaround_weight import Adaround, AdaroundParameters
from aimet_torch.common.defs import QuantScheme
from aimet_torch.common.quantsim_config.utils import get_path_for_per_channel_config
from aimet_torch.cross_layer_equalization import equalize_model
from aimet_torch.model_preparer import prepare_model
from aimet_torch.quantsim import QuantizationSimModel
from aimet_torch.seq_mse import apply_seq_mse
from torch import nn

from benchmarks.peers.job import Job, Quantized, serve
from benchmarks.peers.steps import count_steps

# Sequential MSE searches weight scales by each layer's output error, without gradients.
_CONFIGURATIONS = {
    "min-max": {"scheme": "min_max"},
    "TF enhanced": {"scheme": "post_training_tf_enhanced"},
    "percentile 99.99": {"scheme": "post_training_percentile", "percentile": 99.99},
    "CLE, min-max": {"scheme": "min_max", "cle": True},
    "CLE, TF enhanced": {"scheme": "post_training_tf_enhanced", "cle": True},
    "sequential MSE": {"scheme": "post_training_tf_enhanced", "seq_mse": True},
    "CLE, sequential MSE": {"scheme": "post_training_tf_enhanced", "cle": True, "seq_mse": True},
    "AdaRound": {"scheme": "post_training_tf_enhanced", "adaround": True},
    "CLE, AdaRound": {"scheme": "post_training_tf_enhanced", "cle": True, "adaround": True},
}
_CONFIG_FILE = get_path_for_per_channel_config()
_ADAROUND_BATCH = 32  # What its optimizer takes for a step, whatever the loader gives.


def _adaround(model: nn.Module, job: Job, scheme: QuantScheme) -> tuple[nn.Module, dict[str, Any]]:
    """The model with rounded weights, whose grids lie in the job's folder then."""
    calibration = job.calibration()
    batches = list(calibration.split(_ADAROUND_BATCH))
    parameters = AdaroundParameters(
        batches, num_batches=len(batches), default_num_iterations=job.iterations
    )
    with count_steps() as steps:
        model = Adaround.apply_adaround(
            model, calibration[:1], parameters, path=job.folder, filename_prefix="adaround",
            default_param_bw=job.weight_bits, default_quant_scheme=scheme,
            default_config_file=_CONFIG_FILE,
        )  # fmt: skip
    return model, {"iterations": job.iterations, "batch_size": _ADAROUND_BATCH, **steps}


def quantize(job: Job) -> Quantized:
    settings = _CONFIGURATIONS[job.configuration]
    calibration = job.calibration()
    batches = list(calibration.split(8))
    model = prepare_model(job.model())
    if settings.get("cle"):
        equalize_model(model, dummy_input=calibration[:1])
    scheme = QuantScheme[settings["scheme"]]
    steps: dict[str, Any] = {}
    if settings.get("adaround"):
        model, steps = _adaround(model, job, scheme)
    simulation = QuantizationSimModel(
        model, calibration[:1], quant_scheme=scheme,
        default_output_bw=job.activation_bits, default_param_bw=job.weight_bits,
        config_file=_CONFIG_FILE,
    )  # fmt: skip
    if settings.get("adaround"):
        simulation.set_and_freeze_param_encodings(f"{job.folder}/adaround.encodings")
    if "percentile" in settings:
        simulation.set_percentile_value(settings["percentile"])
    if settings.get("seq_mse"):
        apply_seq_mse(simulation, batches)

    @torch.no_grad()
    def show_calibration_images(quantized) -> None:
        for batch in batches:
            quantized(batch)

    simulation.compute_encodings(show_calibration_images)
    settings = {**settings, "config_file": "default_config_per_channel", **steps}
    return Quantized(simulation.model, settings, "fake quantization")


if __name__ == "__main__":
    serve(aimet_torch.__version__, quantize)
