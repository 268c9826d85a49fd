"""The latency measurement calls every model in turn and restores the thread count."""

import time
from itertools import groupby

import pytest
import torch
from torch import nn

from repq_fx.analysis import in_channels_last, measure_latency, thread_count


class Recorder(nn.Module):
    def __init__(self, name, calls):
        super().__init__()
        self.name, self.calls = name, calls

    def forward(self, image):
        self.calls.append((self.name, torch.get_num_threads()))
        return image


def test_models_take_turns_with_the_threads_asked_for():
    calls = []
    models = {name: Recorder(name, calls) for name in ("a", "b")}
    before = torch.get_num_threads()
    result = measure_latency(models, (torch.ones(1),), repeats=3, threads=1)
    turns = [(name, len(list(group))) for name, group in groupby(name for name, _ in calls)]
    # Two rounds before the first that counts.
    assert [name for name, _ in turns] == ["a", "b"] * 5
    assert all(count > 1 for _, count in turns)
    assert {threads for _, threads in calls} == {1}
    assert torch.get_num_threads() == before
    for statistics in result.values():
        assert 0 < statistics.lower_quartile <= statistics.median <= statistics.upper_quartile


def test_any_function_can_be_timed_without_inputs():
    result = measure_latency({"sleep": lambda: time.sleep(0.002)}, repeats=2)
    assert result["sleep"].median >= 2


def test_weights_of_four_axes_have_their_channels_last():
    model = nn.Conv2d(4, 6, 3)
    model.register_buffer("windows", torch.ones(1, 2, 3, 4, 5))
    expected = model.weight.clone()
    assert in_channels_last(model) is model
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(model.weight, expected)
    assert model.windows.is_contiguous()


def test_thread_count_is_restored():
    before = torch.get_num_threads()
    with thread_count(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repeats": 1}, "repeats must be at least 2, got 1"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
    ],
    ids=["repeats", "threads"],
)
def test_too_few_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        measure_latency({}, **arguments)


def test_quartiles_lie_between_the_times(monkeypatch):
    # In each of four rounds a call that warms up and one that counts from the third on.
    seconds = iter([0.02] * 5 + [0.001, 0.02, 0.1])
    clock = [0.0]

    def model():
        clock[0] += next(seconds)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    result = measure_latency({"uneven": model}, repeats=2)["uneven"]
    assert 1 <= result.lower_quartile < result.median < result.upper_quartile <= 100
