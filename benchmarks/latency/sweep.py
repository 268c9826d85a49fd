"""Is any network slower in INT8 than in FP32? `python -m benchmarks.latency.sweep [NAME ...]`.

The networks of the other benchmarks, one of each family of timm, and the classifiers of
torchvision, at their own image size. FP32 is the model as it was built and, in columns of its own,
merged, with the channels last. A network that the file of results has is not measured again unless
it is named. Weights are random but for those of `benchmarks.latency.int8`; latency depends on the
layers.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import repq_fx
from benchmarks.latency.sweep_networks import Network, networks
from benchmarks.publish import RESULTS, protocol_report
from repq_fx import Scheme, analysis
from repq_fx.analysis.report import (
    Column,
    Columns,
    Remark,
    Report,
    Row,
    Unshown,
    print_table,
    write,
)
from tests.real_models import randomize

_BATCHES = 1, 8
_CALIBRATION_IMAGES = 2
_FILE = RESULTS / "latency_sweep.json"
# As `benchmarks.latency.int8`: off, what only changes numbers.
_QUICK = Scheme(gptq=False, output_search=False, sequential_ranges=False, bias_correction=False)
_SECONDS = 3.0  # Of timed calls for each network and batch size, in as many rounds as fit.
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 20
_WARM_UP_SECONDS = 0.01
_AS_BUILT, _MERGED, _INT8 = "fp32_ms", "fp32_merged_ms", "int8_ms"


@dataclass(frozen=True)
class Latency:
    """Medians at one batch size, measured by turns.

    Attributes:
        batch: Images.
        fp32_ms: Of the model as it was built.
        fp32_merged_ms: Of the merged model with the channels last.
        int8_ms: Of the quantized model.
        speedup: How many times as fast INT8 is as the model as it was built.
        speedup_merged: The same of the merged model.
    """

    batch: int
    fp32_ms: float
    fp32_merged_ms: float
    int8_ms: float
    speedup: float
    speedup_merged: float


def _gains(latencies: Sequence[Latency]) -> str:
    return ", ".join(
        f"{each.batch}: {each.speedup:.2f} ({each.speedup_merged:.2f})" for each in latencies
    )


COLUMNS: Columns = (
    Column("name", "network"),
    Unshown("shape"),
    Column("latencies", "by batch size, over FP32\nas built (and merged)", _gains),
    Unshown("float_operations"),
    Unshown("quantize_seconds"),
    Remark("problem"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default_data = Path(__file__).parents[2].parent / "shared" / "data"
    parser.add_argument("names", nargs="*", help="measure these, also again")
    parser.add_argument("--data", type=Path, default=default_data)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = _known()
    for network in networks():
        is_named = any(name in network.name for name in arguments.names)
        if is_named or (not arguments.names and network.name not in found):
            found[network.name] = measure(network, arguments.data / "weights")
            print(found[network.name], flush=True)
            write(protocol_report("one thread, in turns", COLUMNS, list(found.values())), _FILE)
    slowest_first = sorted(found.values(), key=_least_gain)
    print_table(Report("How many times as fast INT8 is", COLUMNS, slowest_first))


def _least_gain(row: Row) -> float:
    """At any batch size; 0 for what failed."""
    return min((each.speedup for each in row.get("latencies")), default=0.0)


def measure(network: Network, weights: Path) -> Row:
    """Quantize and time one network."""
    torch.manual_seed(0)
    try:
        return _measure(network, weights)
    except Exception as error:  # The others can still be timed.
        problem = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return Row(
            network.name, shape=network.shape, latencies=(), float_operations={}, problem=problem
        )


def _measure(network: Network, weights: Path) -> Row:
    images = torch.randn(max(_BATCHES), *network.shape)
    model = network.build(weights).eval()
    if network.is_random:
        randomize(model, (_CALIBRATION_IMAGES, *network.shape))
    merged = repq_fx.reparameterize(model, images[:_CALIBRATION_IMAGES])
    start = time.perf_counter()
    int8 = repq_fx.quantize(model, images[:_CALIBRATION_IMAGES], scheme=_QUICK, progress=False)
    seconds = time.perf_counter() - start
    models = {
        _AS_BUILT: model,
        _MERGED: _with_channels_last(merged),
        _INT8: int8,
    }
    return Row(
        network.name,
        shape=network.shape,
        latencies=tuple(_latency(models, images[:batch]) for batch in _BATCHES),
        float_operations=analysis.float_operations(int8),
        quantize_seconds=seconds,
    )


def _with_channels_last(merged: nn.Module) -> Callable[[Tensor], object]:
    merged = analysis.in_channels_last(merged)
    return lambda images: merged(images.contiguous(memory_format=torch.channels_last))


def _latency(models: Mapping[str, Callable[[Tensor], object]], images: Tensor) -> Latency:
    with torch.inference_mode():
        once = sum(_milliseconds(model, images) for model in models.values()) / 1e3
        rounds = min(max(round(_SECONDS / once), _FEWEST_ROUNDS), _MOST_ROUNDS)
        times: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(rounds):
            for name, model in models.items():
                times[name].append(_milliseconds(model, images))
    medians = {name: statistics.median(series) for name, series in times.items()}
    return Latency(
        len(images),
        **medians,
        speedup=medians[_AS_BUILT] / medians[_INT8],
        speedup_merged=medians[_MERGED] / medians[_INT8],
    )


def _milliseconds(model: Callable[[Tensor], object], images: Tensor) -> float:
    """Of a call, after others if it is so short that what ran before is still in the caches."""
    begin = time.perf_counter()
    milliseconds = _timed(model, images)
    if milliseconds > 1e3 * _WARM_UP_SECONDS:
        return milliseconds
    while time.perf_counter() - begin < _WARM_UP_SECONDS:
        model(images)
    # Not the last of these: a call that was interrupted is likely to be it.
    return _timed(model, images)


def _timed(model: Callable[[Tensor], object], images: Tensor) -> float:
    start = time.perf_counter()
    model(images)
    return 1e3 * (time.perf_counter() - start)


def _known() -> dict[str, Row]:
    """The rows of earlier runs, by name."""
    entries = json.loads(_FILE.read_text())["rows"] if _FILE.is_file() else []
    rows = {}
    for entry in entries:
        name = entry.pop("name")
        latencies = tuple(Latency(**each) for each in entry.pop("latencies"))
        rows[name] = Row(name, latencies=latencies, **entry)
    return rows


if __name__ == "__main__":
    main()
