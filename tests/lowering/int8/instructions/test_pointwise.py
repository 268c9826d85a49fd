"""Steps on single elements against their definitions."""

from itertools import permutations

import pytest
import torch

from repq_fx.lowering.int8.instructions import (
    Activation,
    Combination,
    Combine,
    Dequantize,
    Epilogue,
    Int8Linear,
    LayerGrids,
    LevelGrid,
    Lookup,
    Quantize,
)

from .conftest import levels, program_of
from .test_layers import weight

GRID = LevelGrid(0.05, 100, 3, 240)
SHAPES = [(2, 3, 5, 7), (1, 64, 8, 8), (2, 70, 3, 3), (3, 17), (2, 3, 10), (0, 4, 2, 2)]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed", "sliced"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_quantize(shape, layout, meets_contract):
    values = 5 * torch.randn(shape)
    if len(shape) == 4:
        values = {
            "contiguous": lambda: values,
            "channels_last": lambda: values.contiguous(memory_format=torch.channels_last),
            "transposed": lambda: values.transpose(2, 3),
            "sliced": lambda: torch.cat([values, values], 1)[:, 1 : shape[1] + 1, ::2],
        }[layout]()
    meets_contract(Quantize(GRID), values, exact=True)


@pytest.mark.parametrize("step", [1, 2], ids=["whole", "every second"])
@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_quantize_reads_axes_in_any_order(rank, step, meets_contract):
    # The channels are the third axis from the end, of images, or the last, for a linear layer.
    values = 5 * torch.randn((2, 3, 20, 5, 19)[:rank])[..., ::step]
    for order in permutations(range(rank)):
        permuted = values.permute(order)
        meets_contract(Quantize(GRID), permuted, exact=True)
        channels = permuted.shape[-1]
        layer = Int8Linear(weight(4, channels), None, LayerGrids(GRID, Epilogue()))
        program = program_of(Quantize(GRID), layer)
        torch.testing.assert_close(program(permuted), program.body(permuted))


@pytest.mark.parametrize("shape", [(2, 0, 2, 0, 3, 0, 4), (2, 3, 4, 5, 6, 0)], ids=str)
def test_quantize_takes_no_elements(shape, meets_contract):
    meets_contract(Quantize(GRID), torch.randn(shape), exact=True)


def test_quantize_repeats_an_expanded_axis(meets_contract):
    meets_contract(Quantize(GRID), torch.randn(2, 1, 5).expand(2, 40, 5), exact=True)


def test_numbers_that_are_none(meets_contract):
    values = torch.tensor([[float("nan"), float("inf"), -float("inf"), 0.125, -0.125, 1e30]])
    meets_contract(Quantize(LevelGrid(0.25, 3)), values, exact=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dequantize(shape, meets_contract):
    meets_contract(Dequantize(GRID), levels(*shape), exact=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_lookup(shape, meets_contract):
    meets_contract(Lookup(levels(256)), levels(*shape), exact=True)


@pytest.mark.parametrize("activation", list(Activation))
@pytest.mark.parametrize("combination", list(Combination))
@pytest.mark.parametrize("shape", [(2, 70, 5, 5), (3, 33)], ids=str)
@pytest.mark.parametrize("scaled", [(1.0, 0.0), (-0.8, 0.3)], ids=str)
def test_combine(scaled, shape, combination, activation, meets_contract):
    epilogue = Epilogue(LevelGrid(0.0973, 90), activation, 0.2, *scaled)
    step = Combine(combination, LevelGrid(0.0519, 120), LevelGrid(0.0317, 100), epilogue)
    meets_contract(step, levels(*shape), levels(*shape))


@pytest.mark.parametrize("activation", [Activation.NONE, Activation.SILU])
@pytest.mark.parametrize("combination", list(Combination))
@pytest.mark.parametrize(
    ("first", "second", "channel_shape"),
    [
        ((2, 70, 5, 5), (2, 70, 5, 5), (-1, 1, 1)), ((2, 70, 5, 5), (2, 70, 1, 1), (-1, 1, 1)),
        ((2, 70, 1, 1), (2, 70, 5, 5), (-1, 1, 1)), ((70, 5, 5), (70, 5, 5), (-1, 1, 1)),
        ((3, 70), (3, 70), (-1,)), ((2, 3, 70), (70,), (-1,)), ((2, 3, 4, 70), (4, 1), (-1,)),
    ],
    ids=str,
)  # fmt: skip
def test_a_factor_and_an_offset_of_each_channel(
    first, second, channel_shape, combination, activation, meets_contract
):
    scaled = tuple((2 * torch.rand(70) - 0.5).tolist()), tuple(torch.randn(70).tolist())
    epilogue = Epilogue(LevelGrid(0.0973, 90), activation, 0.0, *scaled)
    grids = LevelGrid(0.0519, 120), LevelGrid(0.0317, 100)
    step = Combine(combination, *grids, epilogue, channel_shape)
    meets_contract(step, levels(*first), levels(*second))


@pytest.mark.parametrize("combination", list(Combination))
@pytest.mark.parametrize("gate_first", [False, True])
def test_one_pixel_for_all(combination, gate_first, meets_contract):
    grids = (LevelGrid(0.0519, 120), LevelGrid(0.00413, 0))
    step = Combine(combination, *grids, Epilogue(LevelGrid(0.0507, 100)))
    images = [levels(2, 70, 5, 5), levels(2, 70, 1, 1)]
    meets_contract(step, *(images[::-1] if gate_first else images))
