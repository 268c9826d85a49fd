"""Detectors on the command line: `repq quantize ultralytics:FILE`, `predict` and `val`."""

import json
import shutil

import pytest
from PIL import Image

import repq_fx
from repq_fx.integrations import ultralytics as adapter
from tests.detectors import SIDE, data, make_yolo, ultralytics

pytestmark = pytest.mark.filterwarnings("ignore")
__all__ = ["data", "make_yolo", "ultralytics"]


@pytest.fixture
def checkpoint(make_yolo, tmp_path):
    """A .pt file of a detector of two classes."""
    yolo = make_yolo("tiny")
    yolo.model.args = {**yolo.overrides, "imgsz": SIDE}
    yolo.save(tmp_path / "tiny.pt")
    return tmp_path / "tiny.pt"


@pytest.fixture
def saved(make_yolo, tmp_path):
    """A file of ours; that its network is in float makes no difference here."""
    repq_fx.save(adapter.merge(make_yolo("tiny")), tmp_path / "model.repq")
    return tmp_path / "model.repq"


def test_quantize_writes_a_model_and_a_report(repq, checkpoint, data, tmp_path):
    out = tmp_path / "int8.repq"
    code, output, error = repq(
        "quantize", f"ultralytics:{checkpoint}", "--data", data, "--out", out,
        "--calibration-images", 4, "--image-size", SIDE,
    )  # fmt: skip
    assert code == 0, error
    assert "FP32, merged" in output
    report = json.loads((tmp_path / "int8.repq.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["FP32, merged", "INT8 w8a8"]
    assert all(
        0 <= row["map50_95_percent"] <= row["map50_percent"] <= 100 for row in report["rows"]
    )
    assert report["rows"][1]["size_bytes"] == out.stat().st_size
    assert report["rows"][1]["float_layers"] == []
    assert report["rows"][1]["sqnr_db"] > 15
    assert report["protocol"]["image"]["height_pixels"] == SIDE
    assert adapter.is_quantized(repq_fx.load(out))


def test_predict_draws(repq, saved, data, tmp_path):
    folder = data.parent / "images" / "val"
    code, output, error = repq(
        "predict", saved, folder, folder / "0.jpg", "--save", tmp_path / "drawn",
        "--confidence", 0, "--image-size", SIDE,
    )  # fmt: skip
    assert code == 0, error
    assert "class 1" in output
    drawn = sorted((tmp_path / "drawn").glob("*.jpg"))
    assert [path.name for path in drawn] == [f"{index}.jpg" for index in range(6)]
    assert Image.open(drawn[0]).size == (120, 80)


def test_pictures_of_one_name_do_not_replace_each_other(repq, saved, data, tmp_path):
    original = data.parent / "images" / "val" / "0.jpg"
    (tmp_path / "other").mkdir()
    copy = shutil.copy(original, tmp_path / "other")
    code, _, error = repq(
        "predict", saved, original, copy, "--save", tmp_path / "drawn", "--image-size", SIDE
    )
    assert code == 0, error
    drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert drawn == ["0.jpg", "other_0.jpg"]


def test_val_reports_precision(repq, saved, data, tmp_path):
    code, output, error = repq("val", saved, "--data", data, "--out", tmp_path / "val.json")
    assert code == 0, error
    assert "mAP50-95" in output
    (row,) = json.loads((tmp_path / "val.json").read_text())["rows"]
    assert 0 <= row["map50_95_percent"] <= row["map50_percent"] <= 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("quantize", "ultralytics:nowhere.pt", "--data", "DATA", "--out", "m.repq"),
         "ultralytics cannot open 'nowhere.pt'"),
        (("quantize", "ultralytics:net.onnx", "--data", "DATA", "--out", "m.repq"),
         "expected a .pt or .yaml or .yml file, got 'net.onnx'"),
        (("quantize", "ultralytics:SAVED.pt", "--data", "DATA", "--out", "m.repq", "--mean", "0"),
         "--mean does not apply to ultralytics:SAVED.pt, got '0'"),
        (("quantize", "repq_fx.models:cifar_repvgg", "--data", "DATA", "--out", "m.repq",
          "--max-drop", 1), "--max-drop applies to ultralytics:FILE only"),
        (("predict", "SAVED", "nowhere.jpg"), "there is no image or folder 'nowhere.jpg'"),
        (("predict", "SAVED", "IMAGE", "--confidence", 2), "--confidence must be between 0 and 1"),
        (("predict", "nowhere.repq", "IMAGE"), "there is no file 'nowhere.repq'"),
        (("val", "SAVED", "--data", "nowhere.yaml"), "cannot read the 'train' images"),
        (("val", "SAVED", "--data", "PART"), "'train:' key missing"),
        (("val", "SAVED", "--data", "FOLDER"), "is a folder without one"),
        (("val", "SAVED", "--data", "DATA", "--json", "m.txt"), "--json must end in .json"),
        (("quantize", "ultralytics:PT", "--data", "FOLDER", "--out", "m.repq"),
         "a detector's data is the YAML file of a data set in YOLO's format"),
        (("quantize", "ultralytics:PT", "--data", "DATA", "--out", "m.repq",
          "--eval-data", "DATA"), "--eval-data does not apply to ultralytics:"),
        (("quantize", "ultralytics:PT", "--data", "DATA", "--out", "m.repq",
          "--image-size", 100), "100"),
        (("fuse", "ultralytics:PT", "--out", "m.safetensors"),
         "(a detector is for repq quantize, predict and val)"),
    ],
    ids=range(15),
)  # fmt: skip
def test_bad_input_is_one_sentence(
    arguments, message, repq, saved, checkpoint, data, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    images = data.parent / "images" / "val"
    (tmp_path / "part.yaml").write_text("val: images\nnames: {0: a, 1: b}\n")
    known = {"SAVED": saved, "PART": tmp_path / "part.yaml", "DATA": data, "FOLDER": images,
             "IMAGE": images / "0.jpg", "ultralytics:PT": f"ultralytics:{checkpoint}"}  # fmt: skip
    code, _, error = repq(*(known.get(argument, argument) for argument in arguments))
    assert code == 1
    assert message in error
    assert len(error[error.index("repq: ") :].strip().splitlines()) == 1
    assert not (tmp_path / "m.repq").exists()


def test_a_network_alone_is_no_detector(repq, data, tmp_path):
    import torch

    from repq_fx.models import fashion_repvgg

    network = repq_fx.quantize(fashion_repvgg().eval(), torch.randn(4, 1, 28, 28), progress=False)
    repq_fx.save(network, tmp_path / "net.repq")
    code, _, error = repq("val", tmp_path / "net.repq", "--data", data)
    assert code == 1
    assert "holds a network without a detector around it" in error


def test_what_cannot_be_saved_is_refused_before_calibration(
    repq, checkpoint, data, tmp_path, monkeypatch
):
    monkeypatch.setattr("repq_fx.export.unstorable", lambda _: ["layer 'a' is odd", "b"])
    monkeypatch.setattr(adapter, "quantize", None)
    code, _, error = repq(
        "quantize", f"ultralytics:{checkpoint}", "--data", data, "--out", tmp_path / "m.repq"
    )
    assert code == 1
    assert "what --out would hold cannot be saved: layer 'a' is odd (and 1 more)." in error


def test_a_data_set_whose_splits_are_one_is_a_warning(repq, checkpoint, data, tmp_path):
    same = data.with_name("same.yaml")
    same.write_text(data.read_text().replace("images/train", "images/val"))
    code, _, error = repq(
        "quantize", f"ultralytics:{checkpoint}", "--data", same, "--out", tmp_path / "m.repq",
        "--calibration-images", 4, "--image-size", SIDE,
    )  # fmt: skip
    assert code == 0, error
    few, one_split = json.loads((tmp_path / "m.repq.json").read_text())["warnings"]
    assert "only 4 image(s) calibrate" in few
    assert "are the same images" in one_split


def test_a_bad_detector_names_the_layers_that_hurt_most(
    repq, checkpoint, data, tmp_path, monkeypatch
):
    monkeypatch.setattr("repq_fx.cli.caveats.LEAST_SQNR_DB", 1000)
    code, _, error = repq(
        "quantize", f"ultralytics:{checkpoint}", "--data", data, "--out", tmp_path / "m.repq",
        "--image-size", SIDE,
    )  # fmt: skip
    assert code == 0, error
    report = json.loads((tmp_path / "m.repq.json").read_text())
    assert report["protocol"]["calibration_images"] == 6  # All there are, not the usual 128.
    assert report["protocol"]["evaluation_images"] == 6
    assert "only 6 image(s) calibrate" in report["warnings"][0]
    bad = report["warnings"][-1]
    assert "the result is far from FP32" in bad
    assert bad.count("%)") == 3


def test_predictions_as_json(repq, saved, data, tmp_path):
    image = data.parent / "images" / "val" / "0.jpg"
    code, _, error = repq(
        "predict", saved, image, "--confidence", 0, "--json", tmp_path / "found.json",
        "--image-size", SIDE,
    )  # fmt: skip
    assert code == 0, error
    found = json.loads((tmp_path / "found.json").read_text())["objects"]
    assert found
    assert all(entry["image"] == "0.jpg" and 0 <= entry["confidence"] <= 1 for entry in found)
    assert all(len(entry["left_top_right_bottom_pixels"]) == 4 for entry in found)
