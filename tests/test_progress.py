"""What the bar of a long run shows."""

import re

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx.progress import Progress


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8)


@pytest.fixture
def small_net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()


def shown(capsys):
    """The states of the bar, without its picture."""
    return [state.strip() for state in capsys.readouterr().err.split("\r") if state.strip()]


def test_stage_label_and_remaining_time_are_shown(capsys):
    with Progress({"merge": 1, "choose": 3}, shown=True) as progress:
        progress.begin("merge")
        progress.begin("choose")
        progress.step(0.5, "conv1")
    states = shown(capsys)
    assert any(s.startswith("choose:  62%") and s.endswith("left, conv1") for s in states)
    assert states[-1].startswith("choose: 100%")


def test_a_stage_that_was_left_out_counts_nothing(capsys):
    with Progress({"merge": 1, "equalize": 1, "choose": 2}, shown=True) as progress:
        progress.begin("something else")
        progress.step(0.9, "a")
        progress.begin("choose")
        progress.step(0.0, "b")
    states = shown(capsys)
    assert any(s.startswith("something else:   0%") for s in states)
    assert any(s.startswith("choose:  50%") for s in states)


def test_an_error_leaves_the_bar_where_it_was(capsys):
    def run():
        with Progress({"merge": 1}, shown=True) as progress:
            progress.begin("merge")
            progress.step(0.25, "conv")
            raise KeyError("conv")

    with pytest.raises(KeyError):
        run()
    assert shown(capsys)[-1].startswith("merge:  25%")


def test_nothing_is_shown_without_a_bar(capsys, small_net, images):
    progress = Progress.hidden()
    progress.begin("merge")
    progress.step(0.5, "conv")
    repq_fx.quantize(small_net, images, progress=False)
    assert shown(capsys) == []


def test_quantize_shows_one_bar_with_every_stage_and_every_layer(capsys, small_net, images):
    repq_fx.quantize(small_net, [images, images], scheme=repq_fx.Scheme())
    states = shown(capsys)
    percentages = [int(re.search(r"(\d+)%", s).group(1)) for s in states]
    assert percentages == sorted(percentages)
    assert percentages[-1] == 100
    for stage in ("merge", "equalize", "place observers", "calibrate", "choose integers", "lower"):
        assert any(s.startswith(stage + ":") for s in states), stage
    assert any("batch 2 of 2" in s for s in states)
    layers = [n for n, m in small_net.named_modules() if isinstance(m, nn.Conv2d)]
    assert all(any(s.endswith(f", {layer}") for s in states) for layer in layers)


def test_convert_shows_its_layers(capsys, small_net, images):
    prepared = repq_fx.api.prepare(small_net, images, repq_fx.Scheme())
    repq_fx.calibrate(prepared, images, progress=False)
    repq_fx.convert(prepared)
    assert any(s.startswith("choose integers:") for s in shown(capsys))
