"""Share of the machine's peak that each layer reaches: `python -m benchmarks.latency.int8_layers`.

Each instruction of a lowered network is timed as a program of its own, on the levels that it gets
in the network, one thread, less the time of a call that computes next to nothing. Weights are in
the cache more often than in the network, but images of three channels are slower alone: within a
program their pixels take four bytes. The peak is measured by `vnni_peak.cpp`.
"""

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule

import repq_fx
from benchmarks.latency.int8 import NETWORKS, OURS
from benchmarks.publish import publish
from repq_fx.analysis.report import Column, Columns, Report, Row, decimals, percent
from repq_fx.lowering.int8.instructions import ChannelSlice, Instruction, Int8Layer, Int8Program

# Of instructions of one kind and shape.
COLUMNS: Columns = (
    Column("kind", "instruction"),
    Column("input", "input"),
    Column("output", "output"),
    Column("count", "calls"),
    Column("microseconds", "us in all", decimals(0)),
    Column("peak_share", "of peak", percent),  # Of the products per second.
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default_data = Path(__file__).parents[2].parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default_data)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS)[:2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    peak = products_per_second()
    for name in arguments.networks:
        network = NETWORKS[name]
        torch.manual_seed(0)
        images = torch.randn(8, 3, network.side, network.side)
        model = network.build(arguments.data / "weights")
        scheme = OURS["INT8, repq_fx"]
        int8 = repq_fx.quantize(model, images, scheme=scheme, progress=False)
        with torch.inference_mode():
            layers = summarize(list(timed_steps(int8.program, images[:1])), peak)
        report = Report(
            f"{name}, {network.side}x{network.side}, batch 1, one thread; "
            f"peak {peak / 1e9:.0f} G products/s",
            COLUMNS, layers, {"products_per_second": peak, "threads": 1},
        )  # fmt: skip
        publish(f"int8_layers_{name}", report)


def products_per_second() -> float:
    source = Path(__file__).with_name("vnni_peak.cpp")
    with TemporaryDirectory() as folder:
        program = str(Path(folder, "peak"))
        flags = ["-O2", "-std=c++20", "-mavx512f", "-mavx512vnni"]
        subprocess.run(["c++", *flags, str(source), "-o", program], check=True)
        done = subprocess.run([program], check=True, capture_output=True, text=True)
    return float(done.stdout)


@dataclass(frozen=True)
class Step:
    """One instruction, timed in seconds; `products` of levels and weights."""

    instruction: Instruction
    input: Tensor
    output: Tensor
    seconds: float

    @property
    def key(self) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        split = getattr(self.instruction, "is_split", False)
        kind = type(self.instruction).__name__ + (", split" if split else "")
        return kind, tuple(self.input.shape), tuple(self.output.shape)

    @property
    def products(self) -> int:
        if not isinstance(self.instruction, Int8Layer):
            return 0
        per_output = self.instruction.weight[0].numel()
        if self.instruction.coarse is not None:
            per_output += self.instruction.coarse[0].numel()
        return per_output * self.output.numel()


def timed_steps(program: Int8Program, images: Tensor) -> Iterator[Step]:
    empty = torch.zeros(1, 8, dtype=torch.uint8)
    overhead = seconds_of(partial(alone(ChannelSlice(0, 4)), empty))
    values: dict[object, Tensor] = {}
    for node in program.body.graph.nodes:
        if node.op == "placeholder":
            values[node] = images
        elif node.op == "call_module":
            instruction = program.body.get_submodule(node.target)
            inputs = [values[each] for each in node.args]
            step = alone(instruction, len(inputs))
            levels = [each for each in inputs if each.dtype == torch.uint8]
            copies = sum(seconds_of(partial(copy_of, each)) for each in levels)
            values[node] = step(*inputs)
            seconds = seconds_of(partial(step, *inputs)) - overhead - copies
            yield Step(instruction, inputs[0], values[node], max(seconds, 1e-9))


def copy_of(levels: Tensor) -> Tensor:
    """What a program does with levels that come from outside."""
    return torch.empty_like(levels).copy_(levels)


def alone(instruction: Instruction, inputs: int = 1) -> Int8Program:
    graph = Graph()
    values = tuple(graph.placeholder(f"input_{index}") for index in range(inputs))
    graph.output(graph.call_module("instruction", values))
    return Int8Program(GraphModule({"instruction": instruction}, graph))


def seconds_of(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(31):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def summarize(steps: list[Step], peak: float) -> list[Row]:
    groups: dict[object, list[Step]] = {}
    for step in steps:
        groups.setdefault(step.key, []).append(step)
    layers = []
    for members in groups.values():
        kind, input_shape, output_shape = members[0].key
        seconds = sum(step.seconds for step in members)
        products = sum(step.products for step in members)
        layers.append(
            Row(
                kind, input=list(input_shape), output=list(output_shape), count=len(members),
                microseconds=seconds * 1e6,
                peak_share=products / seconds / peak if products else None,
            )
        )  # fmt: skip
    return sorted(layers, key=lambda layer: -layer.get("microseconds"))


if __name__ == "__main__":
    main()
