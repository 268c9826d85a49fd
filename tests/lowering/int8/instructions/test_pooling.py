"""Pools against their definitions."""

import pytest

from repq_fx.lowering.int8.instructions import AveragePool, LevelGrid, MaxPool

from .conftest import levels

# Scales whose ratio gives no ties.
GRIDS = {"input_grid": LevelGrid(0.0513, 120), "output_grid": LevelGrid(0.0407, 90)}
WINDOWS = [
    ((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 2), (1, 1)), ((5, 5), (1, 1), (2, 2)),
    ((1, 3), (2, 1), (0, 1)), ((4, 4), (3, 3), (2, 2)),
]  # fmt: skip
SHAPES = [(2, 3, 13, 12), (1, 70, 8, 9), (0, 4, 8, 8)]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_max_pool(shape, window, meets_contract):
    meets_contract(MaxPool(*window, (1, 1)), levels(*shape), exact=True)


@pytest.mark.parametrize(
    "window",
    [
        ((3, 3), (1, 1), (1, 1), (2, 2)), ((3, 2), (2, 3), (1, 1), (3, 2)),
        ((5, 1), (1, 1), (2, 0), (4, 1)), ((2, 4), (5, 1), (1, 2), (1, 2)),
    ],
    ids=str,
)  # fmt: skip
def test_max_pool_of_taps_apart(window, meets_contract):
    meets_contract(MaxPool(*window), levels(2, 20, 17, 9), exact=True)


def test_large_windows_cost_no_more_than_their_pixels(meets_contract):
    """The largest settings, which would be 2**32 taps one by one."""
    window = (2**16, 2**16), (2**16, 2**16), (2**15, 2**15)
    meets_contract(MaxPool(*window, (1, 1)), levels(1, 3, 9, 9), exact=True)


@pytest.mark.parametrize("count_padding", [False, True])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_average_pool(shape, window, count_padding, meets_contract):
    meets_contract(AveragePool(*window, count_padding=count_padding, **GRIDS), levels(*shape))


@pytest.mark.parametrize("shape", [(2, 3, 13, 12), (1, 1024, 7, 7), (2, 5, 1, 1)], ids=str)
def test_whole_image(shape, meets_contract):
    meets_contract(AveragePool(None, **GRIDS), levels(*shape))
