"""Sony's Model Compression Toolkit: `pytorch_post_training_quantization`, fake quantization."""

import model_compression_toolkit as mct
import torch
from mct_quantizers import QuantizationMethod
from model_compression_toolkit.target_platform_capabilities.constants import (
    KERNEL_ATTR,
    WEIGHTS_N_BITS,
)
from model_compression_toolkit.target_platform_capabilities.tpc_models.imx500_tpc.v1_0 import tpc

from benchmarks.peers.job import Job, Quantized, serve

_UNIFORM = QuantizationMethod.UNIFORM

# The toolkit's own target is Sony's IMX500 with power-of-two activation scales; its builder also
# makes a target with free scales, which is what the other tools have.
_CONFIGURATIONS = {
    "IMX500": {},
    "uniform, all corrections": {
        "activations": "uniform", "activation_channel_equalization": True,
        "activation_bias_correction": True,
        "shift_negative_params_search": True,
    },
}  # fmt: skip


def _target(job: Job, *, uniform: bool):
    """The IMX500's capabilities with this job's bits, by the functions it is itself built with."""
    linear, _, other = tpc.get_op_quantization_configs()
    activations = {"activation_n_bits": job.activation_bits}
    if uniform:
        activations["activation_quantization_method"] = _UNIFORM
    linear = linear.clone_and_edit({KERNEL_ATTR: {WEIGHTS_N_BITS: job.weight_bits}}, **activations)
    other = other.clone_and_edit(**activations)
    return tpc.generate_tpc(other, linear, [linear], "peers")


def quantize(job: Job) -> Quantized:
    settings = _CONFIGURATIONS[job.configuration]
    corrections = {name: value for name, value in settings.items() if name != "activations"}
    calibration = job.calibration()

    def images():
        for batch in calibration.split(8):
            yield [batch.numpy()]

    configuration = mct.core.CoreConfig(
        quantization_config=mct.core.QuantizationConfig(**corrections)
    )
    model, _ = mct.ptq.pytorch_post_training_quantization(
        job.model(), images, core_config=configuration,
        target_platform_capabilities=_target(job, uniform="activations" in settings),
    )  # fmt: skip
    device = next(model.parameters()).device
    return Quantized(lambda batch: model(batch.to(device)).cpu(), settings, "fake quantization")


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(mct.__version__, quantize)
