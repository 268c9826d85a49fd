"""Fixtures: a small data set of drawn images, and detectors of ultralytics with random weights."""

import importlib

import pytest
import torch
import yaml
from PIL import Image, ImageDraw

from .real_models import randomize

SIDE = 96
TINY = {
    "nc": 2,
    "backbone": [
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "RepNCSPELAN4", [16, 16, 16, 1]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [16, 3, 4]],
    ],
    "head": [[[3, 4], 1, "Detect", ["nc"]]],
}


@pytest.fixture(scope="session")
def ultralytics(tmp_path_factory):
    """The package, which writes its settings into a folder of the test and not into home."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("YOLO_CONFIG_DIR", "MPLCONFIGDIR"):
            patch.setenv(variable, str(tmp_path_factory.mktemp(variable)))
        patch.setenv("YOLO_OFFLINE", "true")
        pytest.importorskip("ultralytics.nn.tasks", reason="ultralytics is not installed")
        yield importlib.import_module("ultralytics")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """The YAML file of 6 + 6 images, each with one box of one of two classes."""
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(6):
            image = Image.new("RGB", (120, 80), (40 * index, 90, 200 - 30 * index))
            left, top = 10 + 8 * index, 10 + 4 * index
            ImageDraw.Draw(image).rectangle((left, top, left + 40, top + 30), fill="white")
            image.save(folder / "images" / split / f"{index}.jpg")
            box = (left + 20) / 120, (top + 15) / 80, 40 / 120, 30 / 80
            label = folder / "labels" / split / f"{index}.txt"
            label.write_text(" ".join(map(str, (index % 2, *box))))
    file = folder / "data.yaml"
    names = {0: "square", 1: "box"}
    file.write_text(
        yaml.safe_dump(
            {"path": str(folder), "train": "images/train", "val": "images/val", "names": names}
        )
    )
    return file


@pytest.fixture
def make_yolo(ultralytics, tmp_path):
    """Build a `YOLO` or `RTDETR` with random weights from a YAML file of the package, or `TINY`."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))

    def make(name, classes=2, interface="YOLO"):
        torch.manual_seed(0)
        source = tmp_path / "tiny.yaml" if name == "tiny" else f"{name}.yaml"
        yolo = getattr(ultralytics, interface)(source)
        config = {**yolo.model.yaml, "nc": classes}
        yolo.model = type(yolo.model)(config, verbose=False)
        randomize(yolo.model, (4, 3, SIDE, SIDE))
        yolo.model.names = {index: f"class {index}" for index in range(classes)}
        yolo.model.task = yolo.task
        yolo.overrides["imgsz"] = SIDE
        return yolo

    return make
