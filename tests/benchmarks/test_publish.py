"""Tables and files of benchmarks, and that the committed files are of the columns they declare."""

import json

import pytest

from benchmarks import publish as publishing
from benchmarks.publish import RESULTS, protocol_report, publish
from repq_fx.analysis.report import Column, Report, Row

COLUMNS = (Column("layer", "layer"), Column("ms", "ms"))
FILES = {
    "accuracy.cfws_ablation": ("cfws_ablation_cifar_repvgg", "cfws_ablation_mobileone_s0"),
    "accuracy.mse_or_mae": ("mse_or_mae",),
    "accuracy.reconstruction": (
        "reconstruction_cifar_repvgg_ablation", "reconstruction_mobileone_s0",
    ),
    "accuracy.rvsr": ("rvsr", "rvsr_ablation"),
    "accuracy.timm_families": ("timm_families",),
    "detection.repositories": ("detection_repositories",),
    "detection.schemes": ("yolov9t_schemes",),
    "detection.yolov9t": ("yolov9t_coco128_1t", "yolov9t_coco128_2t"),
    "latency.footprint": ("int8_footprint",),
    "latency.int8_layers": ("int8_layers_mobileone_s0", "int8_layers_repvgg_a0"),
    "latency.reparameterize": ("reparameterize",),
    "latency.sweep": ("latency_sweep",),
    "peers.text_networks": ("text_networks",),
    "speed.quantize": ("quantize_1t",),
}  # fmt: skip


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "RESULTS", tmp_path)
    return tmp_path


def test_a_report_is_printed_and_written(results, capsys):
    publish("net", protocol_report("one thread", COLUMNS, [Row("stem", ms=1.5)], rounds=3))
    assert "one thread" in capsys.readouterr().out
    found = json.loads((results / "net.json").read_text())
    assert list(found) == ["protocol", "rounds", "environment", "rows"]
    assert (found["protocol"], found["rounds"]) == ("one thread", 3)
    assert found["rows"] == [{"layer": "stem", "ms": 1.5}]


def test_without_a_name_nothing_is_written(results, capsys):
    publish(None, Report("title", COLUMNS, [Row("stem", ms=1.5)]))
    assert "stem" in capsys.readouterr().out
    assert not list(results.iterdir())


@pytest.mark.filterwarnings("ignore")  # Of the packages that benchmarks import.
@pytest.mark.parametrize("module", FILES)
def test_committed_files_have_the_declared_columns(module):
    columns = pytest.importorskip(f"benchmarks.{module}", exc_type=ImportError).COLUMNS
    keys = [column.key for column in columns]
    for name in FILES[module]:
        rows = json.loads((RESULTS / f"{name}.json").read_text())["rows"]
        assert all(list(row) == keys for row in rows)
