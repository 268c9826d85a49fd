"""Tables that fit a terminal."""

import pytest

from repq_fx.analysis import LatencyStatistics, StepTime
from repq_fx.analysis.report import MODEL_COLUMNS, Column, Report, Row, Unshown, print_table

ROWS = [
    Row(
        "FP32, merged", top1_percent=83.6, size_bytes=831_464_232,
        latency_ms=LatencyStatistics(1000.4, 1234.6, 1500.0), speedup=1.0,
    ),
    Row(
        "INT8 w8a8", top1_percent=83.4, agreement_percent=100.0, sqnr_db=-17.64,
        size_bytes=2_100_000,
        latency_ms=LatencyStatistics(0.0523, 0.0612, 12.04), speedup=21.3, quantize_seconds=1038.2,
        float_operations={"softmax": 2}, float_layers=("head",), quantize_peak_bytes=123_400_000,
        slow_steps=(StepTime("soft", "softmax", 1.5, 0.75),),
    ),
    Row("INT8, OpenVINO", problem="not installed: pip install openvino nncf"),
]  # fmt: skip


def printed(capsys, *arguments):
    print_table(Report("title", *arguments))
    return capsys.readouterr().out


def test_a_table_with_all_columns_fits_80_characters(capsys):
    text = printed(capsys, MODEL_COLUMNS, ROWS)
    assert max(map(len, text.splitlines())) <= 80
    for shown in ("title", "831.46", "1235 (1000-1500)", "0.06 (0.05-12.0)", "-17.6", "1038.2"):
        assert shown in text
    assert "INT8 w8a8: in float softmax (2)" in text
    assert "INT8 w8a8: 1 layers in float: head" in text
    assert "INT8 w8a8: quantizing held 123 MB more at most" in text
    assert "INT8 w8a8: slow: soft (softmax) 1.50 ms (75%)" in text
    assert "INT8, OpenVINO: not installed: pip install openvino nncf" in text
    assert "…" not in text
    assert "mAP50" not in text


COLUMNS = (Column("layer", "of layer"), Column("rule", "range"), Column("count", "n"), Unshown("x"))


def test_texts_start_at_the_left_and_numbers_end_at_the_right(capsys):
    rows = [Row("a", count=7), Row("longer", rule="min-max", count=1234, x="only for files")]
    lines = [line.rstrip() for line in printed(capsys, COLUMNS, rows).splitlines()]
    assert lines[3] == "of layer  range       n"
    assert lines[5] == "a         -           7"
    assert lines[6] == "longer    min-max  1234"
    assert len(lines) == 7


def test_what_nothing_was_measured_of_has_no_column(capsys):
    assert "range" not in printed(capsys, COLUMNS, [Row("a", count=7), Row("b", rule=None)])


@pytest.mark.parametrize("text", ["[bold]", "[/]", ":smile:"], ids=["style", "end", "emoji"])
def test_texts_are_shown_as_they_are(text, capsys):
    rows = [Row(f"name {text}", rule=f"rule {text}", problem=f"problem {text}")]
    columns = (*COLUMNS, *MODEL_COLUMNS[-1:])
    shown = printed(capsys, columns, rows)
    for said in (f"name {text}", f"rule {text}", f"name {text}: problem {text}"):
        assert said in shown
