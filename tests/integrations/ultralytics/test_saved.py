"""A quantized detector in a file: the same outputs, nothing to execute, and clear refusals."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import repq_fx
from repq_fx import FileFormatError, RepqError, Scheme
from repq_fx.integrations import ultralytics as adapter

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = Scheme(gptq=False, output_search=False, sequential_ranges=False, equalization=False)


@pytest.mark.parametrize(
    ("name", "interface"),
    [("yolov10n", "YOLO"), ("yolo11n-seg", "YOLO"), ("rtdetr-l", "RTDETR")],
)
def test_round_trip(name, interface, make_yolo, data, tmp_path):
    yolo = make_yolo(name, interface=interface)
    if name == "yolov10n":
        yolo.model.end2end = True
        quantized = adapter.quantize(yolo, data, scheme=QUICK, progress=False)
    else:  # What is stored of the network does not depend on what it computes with.
        quantized = adapter.merge(yolo)
    repq_fx.save(quantized, tmp_path / "model.repq")
    loaded = repq_fx.load(tmp_path / "model.repq")
    assert type(loaded) is type(quantized)
    assert loaded.names == quantized.names
    assert loaded.task == quantized.task
    assert loaded.model.end2end == quantized.model.end2end
    frame = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    options = {"conf": 1e-6, "verbose": False}
    (expected,), (found,) = (model.predict(frame, **options) for model in (quantized, loaded))
    assert len(expected.boxes) > 0
    assert torch.equal(expected.boxes.data, found.boxes.data)


@pytest.fixture
def file(make_yolo, tmp_path):
    path = tmp_path / "model.repq"
    repq_fx.save(adapter.merge(make_yolo("tiny")), path)
    return path


def rewritten(file, change):
    """The file with another header."""
    with safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()["repq_fx"])
    change(header["surroundings"])
    save_file(load_file(file), file, {"repq_fx": json.dumps(header)})


def test_no_expression_of_the_file_is_evaluated(file):
    def plant(surroundings):
        surroundings["settings"]["config"]["activation"] = "__import__('os').abort()"

    rewritten(file, plant)
    with pytest.raises(FileFormatError, match="is not a model that was saved"):
        repq_fx.load(file)


def test_only_detectors_are_built(file):
    rewritten(file, lambda surroundings: surroundings["settings"].update(model="Ensemble"))
    with pytest.raises(FileFormatError, match="YOLO of a Ensemble is not a model that was saved"):
        repq_fx.load(file)


def test_another_head_is_refused(file):
    rewritten(file, lambda s: s["settings"]["config"].update(reg_max=8))
    with pytest.raises(RepqError, match="the head in this file does not fit ultralytics"):
        repq_fx.load(file)


def test_an_unknown_integration_is_refused(file):
    rewritten(file, lambda surroundings: surroundings.update(kind="yolov99"))
    with pytest.raises(FileFormatError, match="part of an unknown 'yolov99'"):
        repq_fx.load(file)


def test_the_missing_package_is_named(file, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ultralytics", None)
    with pytest.raises(RepqError, match="pip install ultralytics"):
        repq_fx.load(file)
