"""Affine parameters of real ranges."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repq_fx.quant.grid import Grid, affine_parameters, affine_parameters_of_each

FINITE = st.floats(-1e30, 1e30)


@given(FINITE, FINITE, st.integers(2, 8), st.booleans())
@settings(deadline=None)
def test_zero_is_exact_and_the_range_is_covered(a, b, bits, symmetric):
    grid = Grid.unsigned(bits)
    lowest, highest = min(a, b, 0.0), max(a, b, 0.0)
    parameters = affine_parameters(a, b, grid, symmetric=symmetric) if a <= b else (
        affine_parameters(b, a, grid, symmetric=symmetric)
    )  # fmt: skip
    assert grid.quant_min <= parameters.zero_point <= grid.quant_max
    assert torch.tensor(parameters.scale).item() == parameters.scale  # exact in float32
    covered = parameters.real_range(grid)
    slack = 0.501 * parameters.scale
    assert covered[0] <= lowest + slack
    assert covered[1] >= highest - slack


@given(
    st.lists(st.tuples(FINITE, FINITE) | st.tuples(st.floats(-1, 0), st.floats(0, 1))),
    st.integers(2, 16),
    st.booleans(),
)
@settings(deadline=None)
def test_many_ranges_get_what_each_gets_alone(ends, bits, symmetric):
    ends = [sorted(pair) for pair in ends]
    lowest, highest = torch.tensor(ends, dtype=torch.float64).reshape(-1, 2).unbind(1)
    for grid in (Grid.unsigned(bits), Grid.symmetric(bits)):
        scales, zero_points = affine_parameters_of_each(lowest, highest, grid, symmetric=symmetric)
        alone = [affine_parameters(*pair, grid, symmetric=symmetric) for pair in ends]
        assert scales.tolist() == [each.scale for each in alone]
        assert zero_points.tolist() == [each.zero_point for each in alone]


def test_symmetric_weight_grid_has_no_extra_negative_level():
    assert Grid.symmetric(8) == Grid(-127, 127)
    assert Grid.symmetric(2) == Grid(-1, 1)
