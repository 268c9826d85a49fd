"""torch.ao's FX mode: integer kernels at 8 bits, its fake quantization below."""

import warnings

import torch
from torch.ao.quantization import (
    FakeQuantize,
    HistogramObserver,
    PerChannelMinMaxObserver,
    QConfig,
    QConfigMapping,
    disable_fake_quant,
    disable_observer,
    enable_fake_quant,
    enable_observer,
    get_default_qconfig_mapping,
)
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx, prepare_qat_fx

from benchmarks.peers.job import Job, Quantized, serve


def _narrow_qconfig(job: Job) -> QConfig:
    """The observers of the "onednn" default, with fewer levels."""
    top = 2 ** (job.weight_bits - 1)
    return QConfig(
        activation=FakeQuantize.with_args(
            observer=HistogramObserver, quant_min=0, quant_max=2**job.activation_bits - 1,
            dtype=torch.quint8, reduce_range=False,
        ),
        weight=FakeQuantize.with_args(
            observer=PerChannelMinMaxObserver, quant_min=-top, quant_max=top - 1,
            dtype=torch.qint8, qscheme=torch.per_channel_symmetric,
        ),
    )  # fmt: skip


@torch.no_grad()
def quantize(job: Job) -> Quantized:
    model, calibration = job.model(), job.calibration()
    example = (calibration[:1],)
    if job.configuration != "fake":
        torch.backends.quantized.engine = job.configuration
        prepared = prepare_fx(model, get_default_qconfig_mapping(job.configuration), example)
        for batch in calibration.split(8):
            prepared(batch)
        return Quantized(convert_fx(prepared), {"qconfig": job.configuration}, "torch, CPU")

    # Converted models clip activations to all of quint8; only fake quantization knows fewer levels.
    mapping = QConfigMapping().set_global(_narrow_qconfig(job))
    prepared = prepare_qat_fx(model.train(), mapping, example).eval()
    prepared.apply(enable_observer).apply(disable_fake_quant)
    for batch in calibration.split(8):
        prepared(batch)
    prepared.apply(disable_observer).apply(enable_fake_quant)
    settings = {"qconfig": "FakeQuantize, HistogramObserver, PerChannelMinMaxObserver"}
    return Quantized(prepared, settings, "fake quantization")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # Every entry point of torch.ao says that it is deprecated.
    serve(torch.__version__, quantize)
