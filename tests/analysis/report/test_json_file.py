"""Files: all of one schema, with the environment."""

import json
import math
from pathlib import Path

from repq_fx import MSE
from repq_fx.analysis import LatencyStatistics, StepTime
from repq_fx.analysis.report import MODEL_COLUMNS, Column, Report, Row, Unshown, write

COLUMNS = (Column("layer", "layer"), Column("ms", "ms"), Unshown("shape"))


def written(report, tmp_path):
    write(report, tmp_path / "report.json")
    return json.loads((tmp_path / "report.json").read_text())


def test_a_file_has_context_environment_and_rows_in_this_order(tmp_path):
    rows = [Row("a", shape=(3, 4), ms=1.5), Row("b", ms=math.inf)]
    found = written(Report("title", COLUMNS, rows, {"rule": MSE(), "path": Path("x")}), tmp_path)
    assert list(found) == ["rule", "path", "environment", "rows"]
    assert found["rule"] == {"type": "MSE", "power": 2.0}
    assert found["path"] == "x"
    assert "machine" in found["environment"]
    assert found["rows"] == [
        {"layer": "a", "ms": 1.5, "shape": [3, 4]}, {"layer": "b", "ms": None, "shape": None},
    ]  # fmt: skip
    assert list(found["rows"][0]) == ["layer", "ms", "shape"]


def test_statistics_are_objects_of_their_numbers(tmp_path):
    steps = (StepTime("soft", "softmax", 1.5, 0.75),)
    rows = [Row("a", latency_ms=LatencyStatistics(1.0, 2.0, 3.0), slow_steps=steps)]
    (row,) = written(Report("title", MODEL_COLUMNS, rows), tmp_path)["rows"]
    assert row["latency_ms"] == {"lower_quartile": 1.0, "median": 2.0, "upper_quartile": 3.0}
    assert row["slow_steps"] == [
        {"name": "soft", "kind": "softmax", "milliseconds": 1.5, "share": 0.75, "fallback": None},
    ]  # fmt: skip
