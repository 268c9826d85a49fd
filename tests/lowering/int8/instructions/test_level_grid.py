"""Grids that a file could hold are checked where they are made."""

import math

import pytest

from repq_fx.lowering.int8.instructions import LevelGrid


@pytest.mark.parametrize(
    "scale", [math.nan, math.inf, -math.inf, 0.0, -0.1, 1e-300, 1e300, None, "1"]
)
def test_scales_are_positive_and_finite(scale):
    with pytest.raises(ValueError, match="expected a positive finite scale, got"):
        LevelGrid(scale, 0)


@pytest.mark.parametrize("level", [-1, 256, 2**32, 2**63, 0.5, "3", None])
@pytest.mark.parametrize("name", ["zero_point", "lowest", "highest"])
def test_levels_are_bytes(name, level):
    with pytest.raises(ValueError, match="expected levels from 0 to 255"):
        LevelGrid(**{"scale": 0.1, "zero_point": 0, name: level})


def test_bounds_are_in_order():
    with pytest.raises(ValueError, match="lowest <= highest"):
        LevelGrid(0.1, 0, 9, 8)
