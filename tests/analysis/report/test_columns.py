"""How values are written."""

import pytest

from repq_fx.analysis import LatencyStatistics
from repq_fx.analysis.report import decimals, megabytes, milliseconds, percent


def test_numbers_have_the_digits_that_are_asked_for():
    assert decimals(1)(2.345) == "2.3"
    assert decimals(3)(2.0) == "2.000"
    assert decimals(2)(7) == "7"
    assert decimals(2)([1, 3]) == "[1, 3]"
    assert percent(0.254) == "25%"
    assert megabytes(831_464_232) == "831.46"


@pytest.mark.parametrize(
    ("times", "shown"),
    [((0.0, 0.0, 0.01), "0.00 (0.00-0.01)"), ((9.0, 9.99, 99.9), "9.99 (9.00-99.9)"),
     ((99.0, 100.0, 1e4), "100 (99.0-10000)")],
    ids=["small", "middle", "large"],
)  # fmt: skip
def test_latency_has_three_digits(times, shown):
    assert milliseconds(LatencyStatistics(*times)) == shown
