"""What a walk through a network will cost, and how much of it fits into memory."""

import logging

import pytest
import torch
from torch import nn
from torch.fx import Graph, GraphModule, symbolic_trace

import repq_fx
from repq_fx import api
from repq_fx.passes.equalizing.equalize import equalize_behind_activations
from repq_fx.refine.survey import Survey, within_memory


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        y = self.first(x)
        return y + self.second(y)


def test_values_that_are_needed_later_are_counted():
    survey = Survey.of(symbolic_trace(Residual()), (torch.randn(5, 3, 10, 10),))
    assert survey.live_values == 3 * 8 * 10 * 10


def test_a_larger_layer_is_more_work():
    graph = symbolic_trace(Residual())
    survey = Survey.of(graph, (torch.randn(5, 3, 10, 10),))
    work = {n.name: survey.work_of(n, images=32) for n in graph.graph.nodes}
    assert work["first"] > work["second"] > work["x"] == 0
    first = next(n for n in graph.graph.nodes if n.name == "first")
    assert survey.work_of(first, images=64) > survey.work_of(first, images=32)


class Folded(nn.Module):
    def forward(self, x):
        return x.reshape(4, -1, 3)


@pytest.mark.parametrize("inputs", [torch.randn(4, 5), torch.tensor(1.0)], ids=["four", "number"])
def test_a_network_that_takes_no_single_image_has_none(inputs):
    assert Survey.of(symbolic_trace(Folded()), (inputs,)) is None


def test_what_the_network_overwrites_stays():
    root = nn.Module()
    root.register_buffer("calls", torch.zeros(1))
    graph = Graph()
    image = graph.placeholder("image")
    calls = graph.call_method("add_", (graph.get_attr("calls"), 1.0))
    graph.output(graph.call_method("mul_", (image, calls)))
    images = torch.ones(2, 3)
    assert Survey.of(GraphModule(root, graph), (images,)) is not None
    assert root.calls.item() == 0
    assert torch.equal(images, torch.ones(2, 3))


def test_observers_count_nothing(small_net, images):
    prepared = api.prepare(small_net, images, repq_fx.Scheme())
    assert Survey.of(prepared, (images,)) is not None
    with pytest.raises(repq_fx.CalibrationError, match="has seen no data"):
        repq_fx.convert(prepared)


def test_fewer_images_are_read_where_all_would_take_too_much(
    small_net, images, monkeypatch, caplog
):
    data = torch.cat([images] * 8)[:32]
    seen = []
    conv = nn.Conv2d.forward

    def counted(layer, values):
        seen.append(len(values))
        return conv(layer, values)

    prepared = api.prepare(small_net, data, repq_fx.Scheme())
    repq_fx.calibrate(prepared, data, progress=False)
    monkeypatch.setattr(nn.Conv2d, "forward", counted)
    each = Survey.of(prepared, (data,)).live_values * 8
    for memory, expected in ((2**31, 32), (20 * each, 20), (0, 8)):
        seen.clear()
        monkeypatch.setattr("repq_fx.refine.survey._MEMORY", memory)
        with caplog.at_level(logging.INFO, logger="repq_fx"):
            repq_fx.convert(prepared, "reference", progress=False)
        assert set(seen) == {1, expected}
        assert f"{expected} of 32 images pass through 2 network(s)" in caplog.messages[-1]


def test_equalization_reads_fewer_images_too(small_net, images, monkeypatch):
    data = torch.cat([images] * 8)[:32]
    seen = []
    equalize = equalize_behind_activations

    def counted(graph, inputs, **options):
        seen.append(len(inputs[0]))
        return equalize(graph, inputs, **options)

    monkeypatch.setattr("repq_fx.refine.survey._MEMORY", 0)
    monkeypatch.setattr("repq_fx.backend.preparing.prepare.equalize_behind_activations", counted)
    repq_fx.quantize(small_net, data, progress=False)
    assert seen == [8]


def test_inputs_of_several_lengths_stay_as_they_are():
    inputs = torch.randn(3, 2), torch.randn(4, 2)
    assert within_memory(inputs, Survey(10**12, {}), networks=2) is inputs
    assert within_memory(inputs[:1], None, networks=2)[0] is inputs[0]
