"""`repq demo` on its embedded model."""

import json

import pytest


@pytest.mark.slow
def test_demo_prints_the_table_and_the_next_steps(repq, tmp_path):
    code, output, _ = repq("demo", "--report", tmp_path / "demo.json")
    assert code == 0
    assert "repq_fx.quantize(model, loader)" in output
    rows = {row["name"]: row for row in json.loads((tmp_path / "demo.json").read_text())["rows"]}
    float_top1 = rows["FP32, merged"]["top1_percent"]
    assert rows["repq_fx W8A8"]["top1_percent"] >= float_top1 - 0.5
    assert rows["repq_fx W6A6"]["top1_percent"] >= rows["per-tensor min-max W6A6"]["top1_percent"]
    assert rows["per-tensor min-max W4A8"]["top1_percent"] < 50
    assert rows["repq_fx W4A8"]["top1_percent"] >= float_top1 - 1
    assert "At W4A8, per-tensor min-max falls from" in output
    assert rows["repq_fx W8A8"]["size_bytes"] < 0.5 * rows["FP32, merged"]["size_bytes"]
