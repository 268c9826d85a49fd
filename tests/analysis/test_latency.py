"""The latency measurement calls every model in turn and restores the thread count."""

import pytest
import torch
from torch import nn

from repq_fx.analysis import measure_latency


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
    assert [name for name, _ in calls] == ["a", "b"] * 5
    assert {threads for _, threads in calls} == {1}
    assert torch.get_num_threads() == before
    for statistics in result.values():
        assert 0 < statistics.lower_quartile <= statistics.median <= statistics.upper_quartile


def test_too_few_repeats_are_refused():
    with pytest.raises(ValueError, match="repeats must be at least 2, got 1"):
        measure_latency({}, (), repeats=1)
