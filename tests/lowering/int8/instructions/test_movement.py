"""Movements of levels: exact, whatever the memory they go through."""

import pytest
import torch
from torch.fx import Graph, GraphModule

from repq_fx.lowering.int8.instructions import (
    ChannelChunk,
    ChannelSlice,
    Concatenate,
    Flatten,
    Int8Program,
    Lookup,
    PixelShuffle,
    UpsampleNearest,
)
from repq_fx.ops import has_extension

from .conftest import levels

SHAPES = [(2, 12, 5, 7), (1, 72, 4, 4), (0, 12, 3, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "instruction",
    [
        ChannelSlice(0, 5), ChannelSlice(3, 11), ChannelChunk(2, 1), ChannelChunk(5, 3),
        UpsampleNearest((2, 2), None), UpsampleNearest((1, 3), None),
        UpsampleNearest(None, (11, 9)), UpsampleNearest(None, (3, 2)),
        PixelShuffle(2), Flatten(),
    ],
    ids=lambda instruction: f"{type(instruction).__name__} {instruction.extra_repr()}",
)  # fmt: skip
def test_movement(instruction, shape, meets_contract):
    meets_contract(instruction, levels(*shape), exact=True)


@pytest.mark.parametrize("channels", [(4,), (3, 5), (16, 1, 64), (7, 7, 7, 7)], ids=str)
def test_concatenation(channels, meets_contract):
    meets_contract(Concatenate(), *(levels(2, each, 5, 3) for each in channels), exact=True)


def test_rows(meets_contract):
    meets_contract(Concatenate(), levels(3, 5), levels(3, 9), exact=True)
    meets_contract(ChannelSlice(2, 7), levels(3, 9), exact=True)
    meets_contract(Flatten(), levels(3, 9), exact=True)


def table(number):
    return Lookup((torch.arange(256) * 3 + number).to(torch.uint8))


@pytest.mark.skipif(not has_extension(), reason="needs the compiled kernels")
@pytest.mark.parametrize("outputs", [("b",), ("a", "b"), ("a", "p", "c", "b"), ("q", "p")])
def test_parts_share_memory_and_stay_themselves(outputs):
    """Parts of a whole, a whole of parts, both at once, and some of them read from outside."""
    graph = Graph()
    values = {"x": graph.placeholder("x")}

    def step(name, module, *inputs):
        modules[name] = module
        values[name] = graph.call_module(name, tuple(values[each] for each in inputs))

    modules = {}
    step("t", table(0), "x")
    step("p", ChannelChunk(2, 0), "t")
    step("q", ChannelChunk(2, 1), "t")
    step("u", table(1), "q")
    step("v", table(2), "u")
    step("a", Concatenate(), "p", "q", "u", "v", "v")
    step("c", Concatenate(), "a", "u")
    step("d", ChannelSlice(3, 21), "c")
    step("b", table(3), "d")
    graph.output(tuple(values[each] for each in outputs) if len(outputs) > 1 else values["b"])
    program = Int8Program(GraphModule(modules, graph))
    image = levels(2, 10, 4, 3)
    results, expected = program(image), program.body(image)
    assert len(outputs) == 1 or all(map(torch.equal, results, expected))
    assert len(outputs) > 1 or torch.equal(results, expected)
