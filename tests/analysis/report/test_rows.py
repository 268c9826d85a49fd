"""Rows carry any values, and reports know which."""

import pickle

import pytest

from repq_fx.analysis.report import Column, Report, Row, Unshown

COLUMNS = (Column("layer", "layer"), Column("ms", "ms"), Unshown("shape"))


def test_a_row_has_none_of_what_was_not_measured():
    row = Row("conv", ms=1.5)
    assert row.get("ms") == 1.5
    assert row.get("shape") is None


def test_a_row_with_other_values_is_another_row():
    row = Row("conv", ms=1.5)
    assert row.with_values(ms=2.0, shape=(3,)) == Row("conv", ms=2.0, shape=(3,))
    assert row == Row("conv", ms=1.5)


def test_rows_go_from_process_to_process():
    row = Row("conv", ms=1.5)
    assert pickle.loads(pickle.dumps(row)) == row


def test_columns_and_entries_of_a_report():
    report = Report("title", COLUMNS, [Row("a", ms=1.5), Row("b", shape=(3,))])
    assert report.values("layer") == ["a", "b"]
    assert report.values("ms") == [1.5, None]
    assert report.entries() == [
        {"layer": "a", "ms": 1.5, "shape": None}, {"layer": "b", "ms": None, "shape": (3,)},
    ]  # fmt: skip


def test_a_value_without_a_column_is_refused():
    with pytest.raises(ValueError, match="row 'a': no column 'seconds' in ms, shape"):
        Report("title", COLUMNS, [Row("a", seconds=1.0)])
