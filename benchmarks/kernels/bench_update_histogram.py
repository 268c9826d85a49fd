"""What calibration does with a tensor: ours against torch, as a whole and per channel."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.ao.quantization import HistogramObserver, PerChannelMinMaxObserver

from repq_fx.ops import update_histogram, update_histogram_reference
from repq_fx.ops.update_histogram import SMALLEST_EXPONENT
from repq_fx.quant import TensorHistogram

Update = Callable[[Tensor], Any]


def empty(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """Counts of this shape, with exponents and zeros, before any data."""
    rows = shape[:-1]
    exponents = torch.full(rows, SMALLEST_EXPONENT)
    return torch.zeros(shape, dtype=torch.int64), exponents, torch.zeros_like(exponents)


def reference() -> Update:
    state = empty(8192)
    return lambda x: update_histogram_reference(*state, x)


def per_channel() -> Update:
    state = empty(64, 2048)
    return lambda x: update_histogram(*state, x, axis=1)


# Each makes an observer; the first batch sets its range, all others add to it.
WHOLE: dict[str, Callable[[], Update]] = {
    "repq_fx": lambda: TensorHistogram().update,
    "repq_fx_reference": reference,
    "torch_observer": lambda: HistogramObserver(bins=2048),
    "torch_histc": lambda: lambda x: torch.histc(x, 2048, 0.0, 8.0),
    # Not a histogram: one pass over the same memory, as a bound.
    "torch_aminmax": lambda: torch.aminmax,
}
CHANNELS: dict[str, Callable[[], Update]] = {
    "repq_fx": per_channel,
    # Not a histogram: torch has none per channel.
    "torch_observer": lambda: PerChannelMinMaxObserver(ch_axis=1),
}
INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x,
    "signed": lambda x: torch.where(x == 0, -x.flip(0), x),
    "bfloat16": Tensor.bfloat16,
    "float16": Tensor.half,
}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", WHOLE)
def test_whole(benchmark: BenchmarkFixture, activations: Tensor, name: str) -> None:
    benchmark.group = "update_histogram"
    update = WHOLE[name]()
    update(activations)
    benchmark(update, activations)


@pytest.mark.parametrize("kind", INPUTS)
def test_inputs(benchmark: BenchmarkFixture, activations: Tensor, kind: str) -> None:
    benchmark.group = "update_histogram, inputs"
    values, update = INPUTS[kind](activations), TensorHistogram().update
    update(values)
    benchmark(update, values)


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CHANNELS)
def test_channels(benchmark: BenchmarkFixture, activations: Tensor, name: str, layout: str) -> None:
    benchmark.group = f"update_histogram, 64 channels, {layout}"
    images = activations.view(32, 64, 125, 25).contiguous(memory_format=LAYOUTS[layout])
    update = CHANNELS[name]()
    update(images)
    benchmark(update, images)
