"""What follows the sums, as a file could hold it."""

import math

import pytest

from repq_fx.backend.int8 import Epilogue


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e300])
@pytest.mark.parametrize("name", ["slope", "factor", "offset"])
def test_numbers_are_finite(name, number):
    with pytest.raises(ValueError, match=f"expected a finite {name}"):
        Epilogue(**{name: number})
