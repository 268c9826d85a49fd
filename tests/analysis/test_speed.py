"""Steps are timed, and a network that is slower than the float one is told of."""

import time

import pytest
import torch
from torch import nn
from torch.fx import Graph, GraphModule

from repq_fx.analysis import Speed, StepTime, compare_speed
from repq_fx.lowering.int8.instructions import Int8Program, LevelGrid, Quantize
from repq_fx.ops import has_extension
from tests.lowering.int8.instructions.conftest import levels, program_of
from tests.lowering.int8.instructions.test_layers import ADDEND, convolution

needs_kernels = pytest.mark.skipif(not has_extension(), reason="needs the compiled kernels")


class Takes(nn.Module):
    """Lets a clock go on."""

    def __init__(self, clock, milliseconds):
        super().__init__()
        self.clock, self.milliseconds = clock, milliseconds

    def forward(self, image):
        self.clock[0] += self.milliseconds / 1e3
        return image


@pytest.fixture
def clock(monkeypatch):
    seconds = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: seconds[0])
    return seconds


def chain(**modules):
    graph = Graph()
    value = graph.placeholder("image")
    for name in modules:
        value = graph.call_module(name, (value,))
    graph.output(value)
    return GraphModule(modules, graph)


def of_two_inputs(program):
    graph = Graph()
    graph.output(graph.call_module("program", (graph.placeholder("a"), graph.placeholder("b"))))
    return GraphModule({"program": program}, graph)


@pytest.mark.parametrize("scale", [1.0, 1e3], ids=["short", "long"])
def test_the_steps_of_a_slower_network_are_named_slowest_first(clock, scale):
    int8 = chain(first=Takes(clock, scale), second=Takes(clock, 3 * scale))
    speed = compare_speed(Takes(clock, 2 * scale), int8, (torch.ones(1),))
    assert speed.is_slower
    assert (speed.float_ms, speed.int8_ms) == pytest.approx((2 * scale, 4 * scale))
    assert [(step.name, step.kind, step.fallback) for step in speed.steps] == [
        ("second", "Takes", None), ("first", "Takes", None),
    ]  # fmt: skip
    assert [step.share for step in speed.steps] == pytest.approx([0.75, 0.25])
    assert "INT8 is slower than float" in speed.warning
    assert "second (Takes)" in speed.warning


def test_of_a_faster_network_there_is_nothing_to_say(clock):
    speed = compare_speed(Takes(clock, 2), chain(only=Takes(clock, 1)), (torch.ones(1),))
    assert speed.steps == ()
    assert speed.warning is None


def test_few_calls_are_made_of_a_slow_network(clock):
    seconds_of_one = 3.0
    compare_speed(
        Takes(clock, 1e3 * seconds_of_one), chain(only=Takes(clock, 1e3)), (torch.ones(1),)
    )
    assert clock[0] == pytest.approx(2 * (seconds_of_one + 1.0))


@pytest.mark.parametrize(
    ("float_ms", "int8_ms", "is_slower"),
    [(100, 104, False), (100, 106, True), (0.1, 0.19, False), (0.1, 0.21, True), (2, 1, False)],
    ids=["4 %", "6 %", "90 us", "110 us", "faster"],
)
def test_a_little_slower_may_be_noise(float_ms, int8_ms, is_slower):
    assert Speed(float_ms, int8_ms, threads=1).is_slower == is_slower


def test_the_three_slowest_steps_and_all_that_run_in_pytorch_are_shown():
    steps = [
        StepTime(name, "softmax", 1.0, 0.2, "why" if name in "be" else None) for name in "abcde"
    ]
    for int8_ms, shown in ((5.0, "abce"), (0.5, "be")):
        speed = Speed(1.0, int8_ms, 1, tuple(steps))
        assert "".join(step.name for step in speed.slow_steps) == shown


def test_inputs_are_left_as_they_are():
    image = torch.ones(1, 3)
    compare_speed(lambda image: image.add_(1), chain(only=nn.ReLU(inplace=True)), (-image,))
    compare_speed(lambda image: image.add_(1), chain(only=nn.ReLU(inplace=True)), (image,))
    assert torch.equal(image, torch.ones(1, 3))


@needs_kernels
def test_instructions_are_named_behind_their_program():
    program = program_of(Quantize(LevelGrid(0.03, 114)), convolution(3, 8))
    speed = compare_speed(lambda _: None, chain(stage=program), (torch.randn(4, 3, 64, 64),))
    if speed.is_slower:  # Than nothing, by 0.1 ms.
        kinds = {step.name: step.kind for step in speed.steps}
        assert kinds == {"stage.0": "Quantize", "stage.1": "Int8Convolution"}


@needs_kernels
def test_a_program_that_runs_in_pytorch_is_told_of_once(clock, caplog):
    int8 = of_two_inputs(program_of(convolution(addend=ADDEND), inputs=2))
    inputs = (levels(1, 8, 5, 5), levels(3, 16, 5, 5))
    speed = compare_speed(lambda *_: Takes(clock, 1)(None), int8, inputs)
    assert not speed.is_slower
    (step,) = speed.steps
    assert (step.name, step.kind) == ("program", "Int8Program")
    assert "[3, 16, 5, 5]" in step.fallback
    assert "runs in PyTorch instead of compiled kernels (convolution: " in speed.warning
    int8(*inputs)
    assert not caplog.records


def test_without_kernels_each_program_runs_in_pytorch(monkeypatch):
    monkeypatch.setattr(Int8Program, "_compile", lambda _: None)
    program = program_of(Quantize(LevelGrid(0.03, 114)))
    speed = compare_speed(lambda _: time.sleep(0.01), chain(only=program), (torch.ones(1, 3),))
    assert [step.fallback for step in speed.steps] == ["the compiled kernels were not built"]


def test_a_step_is_one_phrase():
    step = StepTime("program.conv", "Int8Convolution", 1.234, 0.5)
    assert str(step) == "program.conv (Int8Convolution) 1.23 ms (50%)"


def test_what_a_layer_keeps_can_still_be_written_to():
    class Keeps(nn.Module):
        kept = None

        def forward(self, image):
            self.kept = torch.zeros_like(image) if self.kept is None else self.kept
            return image + self.kept.add_(1)

    int8 = chain(layer=Keeps())
    compare_speed(nn.Identity(), int8, (torch.ones(1),))
    int8(torch.ones(1))
