"""Which axis holds what: compiled programs and definitions agree at every rank."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor
from torch.fx import Graph, GraphModule

from repq_fx.lowering.int8.instructions import (
    AveragePool,
    ChannelChunk,
    ChannelLookup,
    ChannelSlice,
    Combination,
    Combine,
    Concatenate,
    ConvolutionGeometry,
    Dequantize,
    Epilogue,
    Flatten,
    Instruction,
    Int8Convolution,
    Int8Linear,
    Int8Program,
    LayerGrids,
    LevelGrid,
    Lookup,
    MaxPool,
    Pad,
    PixelShuffle,
    Quantize,
    Select,
    Slice,
    UpsampleNearest,
)
from repq_fx.ops import has_extension
from repq_fx.quant import QuantizedWeight

from .conftest import levels

pytestmark = pytest.mark.skipif(not has_extension(), reason="needs the compiled kernels")

GRID = LevelGrid(1 / 16, 100)
GRIDS = LayerGrids(GRID, Epilogue(LevelGrid(1 / 4, 120)))


def weight(*shape: int) -> QuantizedWeight:
    # Powers of two: the definition and the kernel round the same numbers.
    return QuantizedWeight(
        torch.randint(-8, 8, shape, dtype=torch.int8), torch.full((shape[0],), 1 / 32), 8
    )


def linear(features: int, grids: LayerGrids = GRIDS) -> Int8Linear:
    return Int8Linear(weight(5, features), torch.arange(5.0), grids)


def convolution(channels: int, groups: int = 1, grids: LayerGrids = GRIDS) -> Int8Convolution:
    out = channels if groups > 1 else 6
    geometry = ConvolutionGeometry(padding=(1, 1), groups=groups)
    return Int8Convolution(weight(out, channels // groups, 3, 3), torch.randn(out), grids, geometry)


def combine(combination: Combination) -> Combine:
    return Combine(combination, GRID, GRID, Epilogue(LevelGrid(1 / 2, 128)))


def image_steps(value: Tensor) -> list[Instruction]:
    if value.dim() not in {3, 4} or min(value.shape[-2:]) < 2:
        return []
    channels = value.shape[-3]
    shuffles = [PixelShuffle(2)] if channels % 4 == 0 else []
    return [
        convolution(channels), convolution(channels, channels),
        MaxPool((2, 2), (1, 1), (0, 0), (1, 1)),
        AveragePool(None, input_grid=GRID, output_grid=GRID),
        AveragePool((-2, 1), (-2, 1), input_grid=GRID, output_grid=GRID), Pad((1, 0, 2, 1), 9),
        *([UpsampleNearest((2, 1), None)] if value.dim() == 4 else []), *shuffles,
    ]  # fmt: skip


def steps_on(value: Tensor) -> list[Instruction]:
    """Steps of one input that are defined for `value`."""
    steps: list[Instruction] = [
        linear(value.shape[-1]),
        Lookup(torch.arange(255, -1, -1, dtype=torch.uint8)),
        Slice(-1, 0, 2**62, 2), Slice(0, 0, -1, 1) if len(value) > 1 else Slice(0, -1, 5, 3),
        *image_steps(value),
    ]  # fmt: skip
    if value.dim() > 1:
        second = value.shape[1]
        tables = torch.randint(0, 256, (second, 256), dtype=torch.uint8)
        steps += [ChannelLookup(tables), Select(1, -1), Select(-1, 0)]
        steps += [Flatten(), ChannelSlice(0, max(1, second // 2)), ChannelChunk(2, 0)]
    return steps


@st.composite
def networks(draw: st.DrawFn) -> tuple[Int8Program, Tensor]:
    """A program of random steps, each on an earlier value or two, and its input."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    shape = [draw(st.integers(1, 9)) for _ in range(draw(st.integers(1, 5)))]
    order = draw(st.permutations(range(len(shape))))
    image = torch.randn([shape[i] for i in order]).permute(sorted(order, key=order.__getitem__)) * 4
    graph = Graph()
    modules: dict[str, Instruction] = {}
    values: list[tuple[object, Tensor]] = []

    def add(step: Instruction, *inputs: tuple[object, Tensor]) -> None:
        name = f"step_{len(modules)}"
        modules[name] = step
        node = graph.call_module(name, tuple(node for node, _ in inputs))
        values.append((node, step(*(value for _, value in inputs))))

    add(Quantize(GRID), (graph.placeholder("image"), image))
    for _ in range(draw(st.integers(1, 6))):
        first = draw(st.sampled_from(values))
        pairs = [other for other in values if _fit(first[1], other[1])]
        if draw(st.booleans()):
            second = draw(st.sampled_from(pairs))
            add(combine(draw(st.sampled_from(Combination))), first, second)
        elif first[1].dim() > 1 and draw(st.booleans()):
            add(Concatenate(), first, first)
        else:
            add(draw(st.sampled_from(steps_on(first[1]))), first)
    add(Dequantize(GRID), values[-1])
    graph.output(tuple(node for node, _ in values))
    return Int8Program(GraphModule(modules, graph)), image


def _fit(first: Tensor, second: Tensor) -> bool:
    try:
        torch.broadcast_shapes(first.shape, second.shape)
    except RuntimeError:
        return False
    return True


@given(networks())
def test_random_programs(network):
    program, image = network
    for result, expected in zip(program(image), program.body(image), strict=True):
        assert result.shape == expected.shape
        apart = (result.float() - expected.float()).abs()
        # Rare ties of rounding may go on as one level, through the factors of later steps.
        assert apart.numel() == 0 or (apart > 0).float().mean() <= 0.02


@pytest.mark.parametrize(
    "shape", [(8,), (3, 8), (3, 5, 8), (2, 3, 5, 8), (2, 3, 2, 5, 8), (0, 3, 5, 8)], ids=str
)
def test_linear_reads_the_last_axis(shape, meets_contract):
    meets_contract(linear(8), levels(*shape))
    with_addend = LayerGrids(GRID, GRIDS.epilogue, GRID)
    meets_contract(linear(8, with_addend), levels(*shape), levels(*shape[:-1], 5))
    meets_contract(linear(8, with_addend), levels(*shape), levels(5))


@pytest.mark.parametrize("groups", [1, 8])
def test_convolution_of_an_image_without_a_batch(groups, meets_contract):
    meets_contract(convolution(8, groups), levels(8, 6, 7))


@pytest.mark.parametrize("combination", Combination)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((2, 8, 5, 7), (8, 1, 1)), ((2, 8, 5, 7), (7,)), ((8, 1, 1), (2, 8, 5, 7)),
        ((2, 8, 5, 7), (2, 1, 5, 7)), ((2, 8, 1, 7), (2, 1, 5, 1)), ((2, 3, 8), (8,)),
        ((2, 1, 8), (2, 5, 1)), ((2, 8, 1, 1), (2, 8, 5, 7)), ((2, 3, 4, 5, 8), (4, 1, 8)),
    ],
    ids=str,
)  # fmt: skip
def test_shapes_that_torch_repeats(first, second, combination, meets_contract):
    meets_contract(combine(combination), levels(*first), levels(*second), exact=True)


@pytest.mark.parametrize("shape", [(3, 9), (2, 6, 5), (2, 6, 5, 3), (2, 6, 2, 3, 2)], ids=str)
def test_movement_at_every_rank(shape, meets_contract):
    for step in (Flatten(), ChannelSlice(1, 4), ChannelChunk(2, 1)):
        meets_contract(step, levels(*shape), exact=True)
    meets_contract(Concatenate(), levels(*shape), levels(*shape), exact=True)
