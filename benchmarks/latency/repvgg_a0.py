"""RepVGG-A0 at 224x224, batch 1: `python -m benchmarks.latency.repvgg_a0 [--threads N]`."""

import argparse
from pathlib import Path

import torch

from repq_fx import CoarseFine, PerChannel, Scheme, analysis, quantize, reparameterize
from repq_fx.cli.report import Row, print_table, write_json
from repq_fx.models import repvgg_a0

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=60)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    images = torch.randn(max(arguments.batch, 4), 3, 224, 224)
    merged = reparameterize(repvgg_a0().eval(), images).to(memory_format=torch.channels_last)
    batch = images[: arguments.batch].contiguous(memory_format=torch.channels_last)
    models = {
        "FP32 eager, channels last": merged,
        "INT8 plain": quantize(merged, images, scheme=Scheme(weight=PerChannel()), progress=False),
        # Random weights gain little from a split; threshold 0 splits every 3x3 convolution.
        "INT8 coarse + fine, all layers": quantize(
            merged, images, scheme=Scheme(weight=CoarseFine(threshold=0.0)), progress=False
        ),
    }
    latency = analysis.measure_latency(
        models, (batch,), repeats=arguments.repeats, threads=arguments.threads
    )
    rows = [Row(name, latency=latency[name]) for name in models]
    protocol = f"RepVGG-A0, 224x224, batch {arguments.batch}, {arguments.threads} thread(s)"
    float_ms, plain_ms, split_ms = (row.latency.median for row in rows)
    ratios = {"FP32 / plain": float_ms / plain_ms, "coarse + fine / plain": split_ms / plain_ms}
    print_table(f"{protocol}: {ratios}", rows)
    name = f"repvgg_a0_latency_{arguments.threads}t_b{arguments.batch}.json"
    write_json(RESULTS / name, rows, protocol=protocol, ratios=ratios)


if __name__ == "__main__":
    main()
