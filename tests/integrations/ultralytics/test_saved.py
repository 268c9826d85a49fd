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


REFUSED = {
    "global-function": first_layer("torch_load", ["PWNED"]),
    "installer": first_layer("check_requirements", ["malware"]),
    "model": first_layer("DetectionModel"),
    "downloader": first_layer("TorchVision", [8, "resnet18", "DEFAULT"]),
    "data-parallel": first_layer("nn.DataParallel"),
    "module-of-functions": first_layer("nn.functional"),
    "initializer": first_layer("nn.init.constant_"),
    "torchvision-operator": first_layer("torchvision.ops.roi_align"),
    "builtins": first_layer("__builtins__"),
    "unknown-name": first_layer("nothing"),
    "number-as-name": first_layer(7),
    "word-as-argument": first_layer("Conv", ["self"]),
    "huge-argument": first_layer("Conv", [1 << 40]),
    "dictionary-as-argument": first_layer("Conv", [{"a": 1}]),
    "nested-list": first_layer("Conv", [[[1]]]),
    "many-repeats": first_layer("Conv", [8, 3, 2], repeats=10**9),
    "source-word": first_layer("Conv", [8, 3, 2], source="x"),
    "source-number": first_layer("Conv", [8, 3, 2], source=77),
    "layers-number": of_config(backbone=3),
    "no-layers": of_config(backbone=[], head=[]),
    "classes-word": of_config(nc="x"),
    "scale-word": of_config(scales={"n": [0.1, "x", 3]}),
    "scale-number": of_config(scale=7),
    "no-channels": of_config(channels=None),
    "other-task": of_overrides(task="classify"),
    "address": of_overrides(data="https://example.com/data.yaml"),
    "address-with-one-slash": of_overrides(data="https:/example.com/data.yaml"),
    "image-size-word": of_overrides(imgsz="x"),
    "flag-number": of_overrides(single_cls=3),
    "absolute-folder": of_overrides(project="/etc"),
    "overrides-number": lambda settings: settings.update(overrides=3),
    "name-path": lambda settings: settings.update(names=[[0, "../../folder"]]),
    "name-key": lambda settings: settings.update(names=[["x", "y"]]),
    "levels-number": lambda settings: settings.update(per_level=0),
    "short-size": lambda settings: settings.update(image_size=[1]),
    "no-config": lambda settings: settings.update(config=None),
    "no-names": lambda settings: settings.pop("names"),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED.keys())
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
