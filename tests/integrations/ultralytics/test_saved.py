"""A quantized detector in a file: the same outputs, nothing to execute, and clear refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import repq_fx
from repq_fx import FileFormatError, RepqError, Scheme
from repq_fx.integrations import ultralytics as adapter
from repq_fx.integrations.ultralytics.saved_settings import checked_config
from tests.export.model_files import edited

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
    edited(file, lambda header: change(header["surroundings"]))


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


def first_layer(name, args=(), repeats=1, source=-1):
    def change(settings):
        settings["config"]["backbone"][0] = [source, repeats, name, list(args)]

    return change


def of_config(**entries):
    return lambda settings: settings["config"].update(entries)


def of_overrides(**entries):
    return lambda settings: settings["overrides"].update(entries)


@pytest.mark.parametrize(
    "change",
    [
        first_layer("torch_load", ["PWNED"]),
        first_layer("check_requirements", ["malware"]),
        first_layer("DetectionModel"),
        first_layer("TorchVision", [8, "resnet18", "DEFAULT"]),
        first_layer("nn.DataParallel"),
        first_layer("nn.functional"),
        first_layer("nn.init.constant_"),
        first_layer("torchvision.ops.roi_align"),
        first_layer("__builtins__"),
        first_layer("nothing"),
        first_layer(7),
        first_layer("Conv", ["self"]),
        first_layer("Conv", [1 << 40]),
        first_layer("Conv", [{"a": 1}]),
        first_layer("Conv", [[[1]]]),
        first_layer("Conv", [8, 3, 2], repeats=10**9),
        first_layer("Conv", [8, 3, 2], source="x"),
        first_layer("Conv", [8, 3, 2], source=77),
        of_config(backbone=3),
        of_config(backbone=[], head=[]),
        of_config(nc="x"),
        of_config(scales={"n": [0.1, "x", 3]}),
        of_config(scale=7),
        of_config(channels=None),
        of_overrides(task="classify"),
        of_overrides(data="https://example.com/data.yaml"),
        of_overrides(data="https:/example.com/data.yaml"),
        of_overrides(imgsz="x"),
        of_overrides(single_cls=3),
        of_overrides(project="/etc"),
        lambda settings: settings.update(overrides=3),
        lambda settings: settings.update(names=[[0, "../../folder"]]),
        lambda settings: settings.update(names=[["x", "y"]]),
        lambda settings: settings.update(per_level=0),
        lambda settings: settings.update(image_size=[1]),
        lambda settings: settings.update(config=None),
        lambda settings: settings.pop("names"),
    ],
    ids=str,
)
def test_settings_that_no_detector_has_are_refused(change, file):
    rewritten(file, lambda surroundings: change(surroundings["settings"]))
    with pytest.raises(FileFormatError, match=r"^load: [^\n]+$"):
        repq_fx.load(file)


def test_a_data_set_by_address_is_not_stored(make_yolo, tmp_path):
    yolo = adapter.merge(make_yolo("tiny"))
    yolo.overrides["data"] = "https://example.com/data.yaml"
    repq_fx.save(yolo, tmp_path / "model.repq")
    assert "data" not in repq_fx.load(tmp_path / "model.repq").overrides
    yolo.overrides["data"] = "folder/data.yaml"
    repq_fx.save(yolo, tmp_path / "model.repq")
    assert repq_fx.load(tmp_path / "model.repq").overrides["data"] == "folder/data.yaml"


def test_the_package_s_own_models_are_allowed(ultralytics):
    folder = Path(ultralytics.__file__).parent / "cfg" / "models"
    files = [*folder.glob("v*/yolo*.yaml"), *folder.glob("[1-9]*/yolo*.yaml")]
    files += folder.glob("rt-detr/rtdetr-*.yaml")
    allowed = 0
    for each in files:
        config = yaml.safe_load(each.read_text())
        is_detector = not each.stem.endswith(("-cls", "-cls-resnet18")) and "-rt" not in each.stem
        if is_detector and "activation" not in config and "backbone" in config:
            checked_config(config)
            allowed += 1
    assert allowed > 40
