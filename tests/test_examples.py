"""Examples run as their first lines say; those of YOLOv6 and YOLOv7 are in `integrations/`."""

import pytest
import torch
from PIL import Image

import repq_fx
from repq_fx.integrations import ultralytics as adapter

from .detectors import SIDE, data, make_yolo, ultralytics
from .example_scripts import run_example

pytestmark = pytest.mark.filterwarnings("ignore")
__all__ = ["data", "make_yolo", "ultralytics"]


def test_ultralytics(monkeypatch, make_yolo, data, tmp_path):
    yolo = make_yolo("tiny")
    yolo.model.args = {**yolo.overrides, "imgsz": SIDE}
    yolo.save(tmp_path / "tiny.pt")
    image = data.parent / "images" / "val" / "0.jpg"
    run_example(
        monkeypatch, "ultralytics_int8", tmp_path / "tiny.pt", data, "--imgsz", SIDE, "--images",
        image, "--output", tmp_path / "out", "--count", 4,
    )  # fmt: skip
    assert adapter.is_quantized(repq_fx.load(tmp_path / "out" / "model.repq"))
    # Three pictures of 120 by 80 pixels, each with a line of text above.
    assert Image.open(tmp_path / "out" / "0.png").size == (360, 100)


def test_timm(monkeypatch, data, tmp_path):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", pretrained=False)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    run_example(
        monkeypatch, "timm_int8", "resnet10t", data.parent / "images", tmp_path / "model.repq",
        "--weights", tmp_path / "weights.pth", "--count", 2,
    )  # fmt: skip
    int8 = repq_fx.load(tmp_path / "model.repq")
    assert int8(torch.randn(1, 3, 64, 64)).shape == (1, 1000)
