import logging

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import api
from repq_fx.backend.prepared_view import PreparedView


class Net(nn.Module):
    """Adds a map with an outlier, or multiplies by it, between two convolutions."""

    def __init__(self, combine, shape):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        values = torch.rand(shape)
        values.view(-1)[-1] = 20
        self.map = nn.Parameter(values)
        self.combine = combine

    def forward(self, x):
        return self.last(self.combine(self.first(x).relu(), self.map))


SHAPES = [(8, 8), (1, 8, 8, 8), (1, 1, 8, 8), (8, 1), (1, 8)]
IMAGES = torch.randn(16, 3, 8, 8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("combine", [torch.add, torch.mul, torch.sub], ids=["add", "mul", "sub"])
def test_no_value_of_a_parameter_is_clipped(combine, shape, caplog):
    model = Net(combine, shape).eval()
    prepared = api.prepare(repq_fx.trace(model, IMAGES), IMAGES, repq_fx.Scheme())
    with caplog.at_level(logging.WARNING):
        repq_fx.calibrate(prepared, IMAGES, progress=False)
        lowered = repq_fx.convert(prepared)
    assert not caplog.records
    observers = PreparedView.of(prepared, "test").observers.values()
    (observer,) = (o for o in observers if o.histogram.highest == 20)
    grid = observer.parameters_of_range()
    assert grid.scale * (255 - grid.zero_point) == pytest.approx(20, rel=1e-2)
    assert [node.op for node in lowered.graph.nodes if node.op == "call_function"] == []
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(model(IMAGES), lowered(IMAGES)) > 25


def test_one_value_everywhere_is_no_reason_to_warn(caplog):
    model = Net(torch.add, (1, 8, 8, 8)).eval()
    nn.init.constant_(model.map, 0.5)
    with caplog.at_level(logging.WARNING):
        repq_fx.quantize(model, IMAGES, progress=False)
    assert not caplog.records
