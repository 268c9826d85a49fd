"""`convert` tells of what it made slower."""

import logging

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import Scheme, api
from repq_fx.analysis import Speed, StepTime, slow_warning
from repq_fx.ops import has_extension
from repq_fx.quant.images import leave_inputs

SLOW = Speed(1.0, 2.0, threads=1, steps=(StepTime("soft", "softmax", 1.5, 0.75),))
FAST = Speed(2.0, 1.0, threads=1)
needs_kernels = pytest.mark.skipif(not has_extension(), reason="needs the compiled kernels")


@pytest.fixture
def prepared():
    images = torch.randn(4, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).eval()
    prepared = api.prepare(repq_fx.reparameterize(net, images), images, Scheme())
    repq_fx.calibrate(prepared, images, progress=False)
    return prepared


def warnings_of(prepared, caplog, backend="int8"):
    with caplog.at_level(logging.WARNING):
        repq_fx.convert(prepared, backend, progress=False)
    return caplog.messages


@needs_kernels
def test_a_slower_network_is_one_warning(prepared, caplog, monkeypatch):
    calls = []
    monkeypatch.setattr(
        slow_warning, "compare_speed", lambda *arguments: calls.append(arguments) or SLOW
    )
    assert warnings_of(prepared, caplog) == [SLOW.warning]
    ((float_network, lowered, inputs),) = calls
    assert inputs[0].shape == (1, 3, 8, 8)
    torch.testing.assert_close(float_network(*inputs), lowered(*inputs), rtol=0, atol=0.1)


@needs_kernels
def test_of_a_faster_network_nothing_is_said(prepared, caplog, monkeypatch):
    monkeypatch.setattr(slow_warning, "compare_speed", lambda *_: FAST)
    assert warnings_of(prepared, caplog) == []


def refuse(*_):
    raise RuntimeError("not one image")


@needs_kernels
def test_a_network_that_takes_no_single_image_is_converted(prepared, caplog, monkeypatch):
    monkeypatch.setattr(slow_warning, "compare_speed", refuse)
    assert warnings_of(prepared, caplog) == []


@pytest.mark.parametrize("case", ["no images", "reference", "no kernels"])
def test_nothing_is_timed_where_nothing_can_be(prepared, caplog, monkeypatch, case):
    monkeypatch.setattr(slow_warning, "compare_speed", lambda *_: pytest.fail("timed"))
    if case == "no images":
        leave_inputs(prepared, None)
    if case == "no kernels":
        monkeypatch.setattr(slow_warning, "has_extension", lambda: False)
    warnings_of(prepared, caplog, "reference" if case == "reference" else "int8")
