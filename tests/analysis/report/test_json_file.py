"""Reports as JSON: what a file holds, and how each value is written."""

import json
import math
import re
from pathlib import Path

import pytest
from torch import nn

from repq_fx import KL, MSE, Override, PerTensor, RepAPQ, Scheme
from repq_fx.analysis import LatencyStatistics, StepTime
from repq_fx.analysis.report import MODEL_COLUMNS, Column, Report, Row, Unshown, write
from repq_fx.analysis.report.json_file import json_value
from repq_fx.api import Backend

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


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (8, 8),
        (0.5, 0.5),
        (None, None),
        (float("inf"), None),
        (float("nan"), None),
        (Path("a"), "a"),
        ((1, (2.0,)), [1, [2.0]]),
        ({"a": Path("b")}, {"a": "b"}),
        (MSE(), {"type": "MSE", "power": 2.0}),
        (Backend.INT8, "int8"),
        (nn.Linear, "Linear"),
        (re.compile("a.*"), "a.*"),
    ],
    ids=str,
)
def test_types_are_kept(value, expected):
    found = json_value(value)
    assert found == expected
    assert type(found) is type(expected)


def test_schemes_and_methods_are_json():
    scheme = Scheme(weight=PerTensor(), activation=KL.tensorrt()).with_overrides(
        Override(nn.Linear, Scheme.w4a8()), Override("stem", None)
    )
    found = json.loads(json.dumps(json_value(scheme), allow_nan=False))
    assert found["weight_bits"] == 8
    assert found["equalization"] is True
    assert found["overrides"][0]["target"] == "Linear"
    assert found["overrides"][0]["scheme"]["weight_bits"] == 4
    assert found["overrides"][1] == {"type": "Override", "target": "stem", "scheme": None}
    assert json_value(RepAPQ())["iterations"] == 300
