"""What follows the sums, as a file could hold it."""

import math

import pytest

from repq_fx.lowering.int8.instructions import Epilogue


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e300])
@pytest.mark.parametrize("name", ["slope", "factor", "offset"])
def test_numbers_are_finite(name, number):
    with pytest.raises(ValueError, match=f"expected a finite {name}"):
        Epilogue(**{name: number})


@pytest.mark.parametrize("name", ["factor", "offset"])
def test_numbers_of_channels_are_finite(name):
    with pytest.raises(ValueError, match=f"expected a finite {name}, got nan"):
        Epilogue(**{name: (1.0, math.nan)})


@pytest.mark.parametrize(("factor", "offset"), [((), 0.0), ((1.0, 2.0), (0.0, 1.0, 2.0))])
def test_there_are_as_many_factors_as_offsets(factor, offset):
    with pytest.raises(ValueError, match="expected as many factors as offsets, at least one"):
        Epilogue(factor=factor, offset=offset)


def test_channels_are_those_of_either():
    assert Epilogue().channels is None
    assert Epilogue(factor=(1.0, 2.0)).channels == 2
    assert Epilogue(offset=(1.0,)).channels == 1


def test_a_checksum_stands_for_the_numbers_of_many_channels():
    """The text is part of the fingerprint of a state dict, and of what `print` shows."""
    shown = repr(Epilogue(factor=(1.5,) * 1000))
    assert len(shown) < 150
    assert shown != repr(Epilogue(factor=(1.5,) * 999 + (1.25,)))
    expected = "Epilogue(output_grid=None, activation=<Activation.NONE: 'none'>, slope=0.0, "
    assert repr(Epilogue()) == expected + "factor=1.0, offset=0.0)"
