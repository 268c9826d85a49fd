"""Rows of what was timed and of what could not be."""

from repq_fx.analysis import LatencyStatistics
from repq_fx.cli.latency_table import latency_rows, print_latency


def test_speed_up_is_over_the_baseline(capsys):
    latency = {"slow": LatencyStatistics(7.0, 8.0, 9.0), "fast": LatencyStatistics(1.0, 2.0, 3.0)}
    rows = latency_rows(
        ["slow", "fast", "broken"], latency, {"broken": "no kernel"}, baseline="slow"
    )
    assert [row.speedup for row in rows] == [1.0, 4.0, None]
    assert rows[2].latency is None
    print_latency("title", rows)
    output = capsys.readouterr().out
    assert "2.00 ms (1.00-3.00)" in output
    assert "no kernel" in output


def test_without_a_baseline_there_is_no_speed_up():
    (row,) = latency_rows(["a"], {"a": LatencyStatistics(1.0, 2.0, 3.0)}, {}, baseline="b")
    assert row.speedup is None
