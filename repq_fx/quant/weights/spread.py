"""Where to look in each of many images, so that together they show all places alike."""

# Multiples of 1 / p and 1 / p^2, without their integers, fill the unit square evenly.
_PLASTIC = 1.32471795724474602596  # The real root of p^3 = p + 1.


def point_in_square(index: int) -> tuple[float, float]:
    """A point of ``[0, 1) x [0, 1)``; the first of any number are spread over it evenly."""
    return index / _PLASTIC % 1, index / _PLASTIC**2 % 1
