"""Tables that fit a terminal, and reports of one schema."""

import json

import pytest

from repq_fx.analysis import LatencyStatistics, StepTime
from repq_fx.analysis.report.rows import (
    SCHEMA_VERSION,
    ImageFormat,
    Protocol,
    Report,
    Row,
    milliseconds,
    print_table,
)

ROWS = [
    Row(
        "FP32, merged", top1_percent=83.6, size_bytes=831_464_232,
        latency_ms=LatencyStatistics(1000.4, 1234.6, 1500.0), speedup=1.0,
    ),
    Row(
        "INT8 w8a8", 83.4, agreement_percent=100.0, sqnr_db=-17.64, size_bytes=2_100_000,
        latency_ms=LatencyStatistics(0.0523, 0.0612, 12.04), speedup=21.3, quantize_seconds=1038.2,
        float_operations={"softmax": 2}, float_layers=("head",), quantize_peak_bytes=123_400_000,
        slow_steps=(StepTime("soft", "softmax", 1.5, 0.75),),
    ),
    Row("INT8, OpenVINO", problem="not installed: pip install openvino nncf"),
]  # fmt: skip


def test_a_table_with_all_columns_fits_80_characters(capsys):
    print_table("title", ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for shown in ("title", "831.46", "1235 (1000-1500)", "0.06 (0.05-12.0)", "-17.6", "1038.2"):
        assert shown in text
    assert "INT8 w8a8: in float softmax (2)" in text
    assert "INT8 w8a8: 1 layers in float: head" in text
    assert "INT8 w8a8: quantizing held 123 MB more at most" in text
    assert "INT8 w8a8: slow: soft (softmax) 1.50 ms (75%)" in text
    assert "INT8, OpenVINO: not installed: pip install openvino nncf" in text
    assert "…" not in text
    assert "mAP50" not in text


@pytest.mark.parametrize(
    ("times", "shown"),
    [((0.0, 0.0, 0.01), "0.00 (0.00-0.01)"), ((9.0, 9.99, 99.9), "9.99 (9.00-99.9)"),
     ((99.0, 100.0, 1e4), "100 (99.0-10000)")],
    ids=["small", "middle", "large"],
)  # fmt: skip
def test_latency_has_three_digits(times, shown):
    assert milliseconds(LatencyStatistics(*times)) == shown


def test_a_report_has_one_schema(tmp_path):
    reports = {}
    for command, options in (
        ("quantize", {"scheme": None}),
        ("fuse", {"regions": [{"name": "a"}]}),
    ):
        path = tmp_path / f"{command}.json"
        Report(
            command,
            "m",
            Protocol(image=ImageFormat.of((3, 8, 9), (0.5,), (0.25,))),
            ROWS,
            output=tmp_path,
            **options,
        ).write(path)
        reports[command] = json.loads(path.read_text())
    first, second = reports.values()
    assert list(first) == list(second)
    assert first["schema_version"] == SCHEMA_VERSION
    assert first["protocol"]["image"] == {
        "channels": 3, "height_pixels": 8, "width_pixels": 9, "mean": [0.5], "std": [0.25],
    }  # fmt: skip
    assert first["output"] == str(tmp_path)
    assert set(first["rows"][0]) == set(first["rows"][2])
    assert first["rows"][0]["latency_ms"]["median"] == 1234.6
    assert first["rows"][1]["quantize_peak_bytes"] == 123_400_000
    assert first["rows"][1]["slow_steps"] == [
        {"name": "soft", "kind": "softmax", "milliseconds": 1.5, "share": 0.75, "fallback": None},
    ]  # fmt: skip
