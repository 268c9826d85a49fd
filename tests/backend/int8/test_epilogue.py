"""What follows the sums, as a file could hold it."""

import math

import pytest

from repq_fx.backend.int8 import Epilogue


@pytest.mark.parametrize("slope", [math.nan, math.inf, 1e300])
def test_slopes_are_finite(slope):
    with pytest.raises(ValueError, match="expected a finite slope"):
        Epilogue(slope=slope)
