"""What is measured of other tools: the table, and a file in which older rows stay."""

import json
from types import SimpleNamespace

import pytest

from benchmarks.peers.report import table_of, update
from benchmarks.peers.rows import failed, measured
from benchmarks.publish import RESULTS

W8A8, W6A6 = (8, 8), (6, 6)
TASK = SimpleNamespace(name="net", protocol="32 images")
OLD = [
    measured("FP32", "merged", "", {"top1_percent": 80.0}),
    measured("nncf", "default", "W8A8", {"top1_percent": 70.0}, {"version": "1"}),
    failed("nncf", "", "W6A6", "not offered"),
]


def write(path, rows, task=TASK):
    update(path, [task], lambda _: list(rows), (W8A8, W6A6))
    return json.loads(path.read_text())["networks"]


def test_rows_of_a_tool_and_width_replace_the_older_ones(tmp_path, capsys):
    path = tmp_path / "peers.json"
    write(path, OLD)
    new = measured("nncf", "mixed", "W8A8", {"top1_percent": 75.0})
    network = write(path, [new])["net"]
    assert network["protocol"] == "32 images"
    found = [(row["tool"], row["configuration"], row["width"]) for row in network["rows"]]
    assert found == [("nncf", "mixed", "W8A8"), ("FP32", "merged", ""), ("nncf", "", "W6A6")]
    assert network["rows"][2] == {
        "tool": "nncf", "configuration": "", "width": "W6A6", "fields": {}, "record": {},
        "problem": "not offered",
    }  # fmt: skip
    assert "net (32 images)" in capsys.readouterr().out


def test_other_images_start_anew(tmp_path):
    path = tmp_path / "peers.json"
    write(path, OLD)
    other = SimpleNamespace(name="net", protocol="64 images")
    assert [row["tool"] for row in write(path, OLD[:1], other)["net"]["rows"]] == ["FP32"]


def test_the_table_is_by_width_and_has_what_was_measured():
    report = table_of("title", reversed(OLD), (W8A8, W6A6))
    assert report.values("width") == ["", "W8A8", "W6A6"]
    assert report.values("top1_percent") == [80.0, 70.0, None]
    assert report.values("problem") == [None, None, "not offered"]


@pytest.mark.parametrize("name", ["peers", "peers_reconstruction"])
def test_committed_files_come_back_as_they_are(name, tmp_path):
    before = json.loads((RESULTS / f"{name}.json").read_text())
    path = tmp_path / "copy.json"
    path.write_text(json.dumps(before))
    widths = (W8A8, W6A6, (4, 8), (4, 4))
    tasks = [
        SimpleNamespace(name=name, protocol=network["protocol"])
        for name, network in before["networks"].items()
    ]
    update(path, tasks, lambda _: [], widths)
    assert json.loads(path.read_text())["networks"] == before["networks"]
