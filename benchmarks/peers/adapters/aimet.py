"""AIMET: `QuantizationSimModel` after cross-layer equalization, fake quantization."""

import aimet_torch
import torch
from aimet_torch.common.defs import QuantScheme
from aimet_torch.common.quantsim_config.utils import get_path_for_per_channel_config
from aimet_torch.cross_layer_equalization import equalize_model
from aimet_torch.model_preparer import prepare_model
from aimet_torch.quantsim import QuantizationSimModel
from aimet_torch.seq_mse import apply_seq_mse

from benchmarks.peers.job import Job, Quantized, serve

# Sequential MSE searches weight scales by each layer's output error, without gradients.
_CONFIGURATIONS = {
    "min-max": {"scheme": "min_max"},
    "TF enhanced": {"scheme": "post_training_tf_enhanced"},
    "percentile 99.99": {"scheme": "post_training_percentile", "percentile": 99.99},
    "CLE, min-max": {"scheme": "min_max", "cle": True},
    "CLE, TF enhanced": {"scheme": "post_training_tf_enhanced", "cle": True},
    "sequential MSE": {"scheme": "post_training_tf_enhanced", "seq_mse": True},
    "CLE, sequential MSE": {"scheme": "post_training_tf_enhanced", "cle": True, "seq_mse": True},
}


def quantize(job: Job) -> Quantized:
    settings = _CONFIGURATIONS[job.configuration]
    calibration = job.calibration()
    batches = list(calibration.split(8))
    model = prepare_model(job.model())
    if settings.get("cle"):
        equalize_model(model, dummy_input=calibration[:1])
    simulation = QuantizationSimModel(
        model, calibration[:1], quant_scheme=QuantScheme[settings["scheme"]],
        default_output_bw=job.activation_bits, default_param_bw=job.weight_bits,
        config_file=get_path_for_per_channel_config(),
    )  # fmt: skip
    if "percentile" in settings:
        simulation.set_percentile_value(settings["percentile"])
    if settings.get("seq_mse"):
        apply_seq_mse(simulation, batches)

    @torch.no_grad()
    def show_calibration_images(quantized) -> None:
        for batch in batches:
            quantized(batch)

    simulation.compute_encodings(show_calibration_images)
    settings = {**settings, "config_file": "default_config_per_channel"}
    return Quantized(simulation.model, settings, "fake quantization")


if __name__ == "__main__":
    serve(aimet_torch.__version__, quantize)
