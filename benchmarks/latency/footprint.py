"""Size of the model file and memory while running: `python -m benchmarks.latency.footprint`.

Memory is what a process of its own holds at most while it runs the network, above what it held
before it had the network; the network is read from a file.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

import repq_fx
from benchmarks.latency.int8 import NETWORKS, OURS
from benchmarks.publish import publish
from repq_fx.analysis.report import Column, Columns, Report, Row, megabytes
from repq_fx.passes import merge_graph

_RUN = """
import sys
import torch, repq_fx
torch.set_num_threads(1)
def resident():
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}
path, *shape = sys.argv[1:]
images = torch.zeros(*map(int, shape))
torch.nn.Conv2d(3, 8, 3)(images[:1])  # What torch sets up at its first convolution.
repq_fx.ops.quantize(images[:1], 1.0, 0, 0, 255)
before = resident()["VmRSS"]
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # Resets the high-water mark.
model = repq_fx.load(path) if path.endswith(".repq") else torch.load(path, weights_only=False)
with torch.inference_mode():
    for _ in range(3):
        model(images)
print(resident()["VmHWM"] - before)
"""


def _by_batch_size(peaks: dict[int, int]) -> str:
    return ", ".join(f"{batch}: {megabytes(size)}" for batch, size in peaks.items())


COLUMNS: Columns = (
    Column("name", "network and precision"),
    Column("file_bytes", "file\nMB", megabytes),
    Column("peak_bytes", "memory MB\nby batch size", _by_batch_size),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default_data = Path(__file__).parents[2].parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default_data)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS)[:2])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    arguments = parser.parse_args()
    rows = []
    for name in arguments.networks:
        network = NETWORKS[name]
        torch.manual_seed(0)
        images = torch.randn(8, 3, network.side, network.side)
        merged = merge_graph(network.build(arguments.data / "weights"), images[:1])
        merged = merged.to(memory_format=torch.channels_last)
        models = {"FP32": merged} | {
            label: repq_fx.quantize(merged, images, scheme=scheme, progress=False)
            for label, scheme in OURS.items()
        }
        rows += [measure(f"{name}, {label}", model, arguments.batches, network.side)
                 for label, model in models.items()]  # fmt: skip
    publish("int8_footprint", Report("Files and memory while running", COLUMNS, rows))


def measure(name: str, model: nn.Module, batches: list[int], side: int) -> Row:
    with TemporaryDirectory() as folder:
        if name.endswith("FP32"):
            path = Path(folder, "model.pt")
            torch.save(model, path)
        else:
            path = Path(folder, "model.repq")
            repq_fx.save(model, path)
        peaks = {batch: peak(path, batch, side) for batch in batches}
        return Row(name, file_bytes=path.stat().st_size, peak_bytes=peaks)


def peak(path: Path, batch: int, side: int) -> int:
    command = [sys.executable, "-c", _RUN, str(path), str(batch), "3", str(side), str(side)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
    return int(json.loads(done.stdout))


if __name__ == "__main__":
    main()
