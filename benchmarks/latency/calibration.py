"""What observers add to a forward pass: `python -m benchmarks.latency.calibration`."""

import argparse
import copy
import warnings

import torch
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import prepare_fx

from benchmarks.accuracy.mobileone_s0 import mobileone_s0
from benchmarks.publish import publish
from repq_fx import Scheme, analysis, reparameterize
from repq_fx.analysis.report import MODEL_COLUMNS, Report, Row
from repq_fx.api import prepare
from repq_fx.models import repvgg_a0
from repq_fx.quant import ActivationObserver

FACTORIES = {"RepVGG-A0": repvgg_a0, "MobileOne-S0": mobileone_s0}
TARGET = 0.10  # Of the time of the float model.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    images = torch.randn(arguments.batch, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    rows, added = [], {}
    for name, factory in FACTORIES.items():
        # In turn, so that both share the machine's noise.
        models = observed_models(factory().eval(), images)
        latency = analysis.measure_latency(
            models, (images,), repeats=arguments.repeats, threads=arguments.threads
        )
        rows += [Row(f"{name}, {kind}", latency_ms=latency[kind]) for kind in models]
        added[name] = {
            kind: latency[kind].median / latency["FP32"].median - 1 for kind in list(models)[1:]
        }
    protocol = f"224x224, batch {arguments.batch}, {arguments.threads} thread(s), channels last"
    shares = ", ".join(
        f"{name} {kind} {share:+.0%}"
        for name, kinds in added.items()
        for kind, share in kinds.items()
    )
    context = {"protocol": protocol, "added": added, "target": TARGET}
    report = Report(f"{protocol}; observers add: {shares}", MODEL_COLUMNS, rows, context)
    publish(f"calibration_{arguments.threads}t_b{arguments.batch}", report)


class RangeOnly(nn.Module):
    """Not a histogram: one pass over the same memory, as a bound."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        torch.aminmax(values)
        return values


def observed_models(model: nn.Module, images: torch.Tensor) -> dict[str, nn.Module]:
    """The merged model without observers, with ours, with `torch.aminmax`, and with torch's."""
    merged = reparameterize(model, images[:1]).to(memory_format=torch.channels_last)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*deprecated.*")
        by_torch = prepare_fx(merged, get_default_qconfig_mapping("x86"), (images,))
    ours = prepare(merged, images, Scheme())
    ranges = copy.deepcopy(ours)
    for name, module in list(ranges.named_modules()):
        if isinstance(module, ActivationObserver):
            ranges.set_submodule(name, RangeOnly())
    return {"FP32": merged, "repq_fx": ours, "torch.aminmax": ranges, "torch": by_torch}


if __name__ == "__main__":
    main()
