"""`repq quantize`: results, files, and one sentence for bad input."""

import json
import re
import shutil
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import repq_fx
from repq_fx import RepAPQ, RepqError
from repq_fx.models import fashion_repvgg

MODEL = "repq_fx.models:fashion_repvgg"
GREY = ("--image-size", 28, "--mean", "0.5", "--std", "0.5")


def test_writes_model_and_report(repq, weights, image_pack, tmp_path):
    out = tmp_path / "model.repq"
    code, output, _ = repq(
        "quantize", MODEL, "--weights", weights, "--data", image_pack, "--out", out,
        "--scheme", "W6A6", "--calibration-images", 8, *GREY,
    )  # fmt: skip
    assert code == 0
    assert "INT8 w6a6" in output
    report = json.loads((tmp_path / "model.repq.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["FP32, merged", "INT8 w6a6"]
    row = report["rows"][1]
    assert row["size_bytes"] == out.stat().st_size
    assert 0 <= row["top1_percent"] <= 100
    assert row["agreement_percent"] is not None
    assert row["latency_ms"]["median"] > 0
    assert isinstance(row["slow_steps"], list)
    assert row["quantize_peak_bytes"] is None or row["quantize_peak_bytes"] >= 0
    assert report["protocol"]["calibration_images"] == 8
    assert report["protocol"]["evaluation_images"] == 24
    assert list(report["stage_seconds"]) == ["merge", "quantize", "latency", "evaluate"]
    for said in ("merge branches", "quantize with 8 images", "evaluate FP32 and INT8 on 24 images"):
        assert re.search(rf"\d\.\d s  {said}", output)
    assert repq_fx.load(out)(torch.randn(2, 1, 28, 28)).shape == (2, 10)


def test_without_labels_reports_similarity_only(repq, weights, tmp_path):
    images = np.random.default_rng(0).normal(size=(6, 1, 28, 28)).astype(np.float32)
    np.savez(tmp_path / "images.npz", images=images)
    code, _, _ = repq(
        "quantize", MODEL, "--weights", weights, "--data", tmp_path / "images.npz",
        "--out", tmp_path / "m.repq", *GREY,
    )  # fmt: skip
    assert code == 0
    row = json.loads((tmp_path / "m.repq.json").read_text())["rows"][1]
    assert row["top1_percent"] is None
    assert row["sqnr_db"] > 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL": "fashion_repvgg"},
         "MODEL must be package.module:factory, timm:NAME, ultralytics:FILE.pt (quantize) or FILE"),
        ({"MODEL": "repq_fx.models:nothing"}, "cannot import MODEL"),
        ({"MODEL": "no_such_package:net"}, "No module named 'no_such_package'"),
        ({"MODEL": "builtins:dict"}, "returned a dict, not an nn.Module"),
        ({"--scheme": "int8"}, "unknown scheme 'int8'"),
        ({"--scheme": "w9a8"}, "weight_bits must be one of"),
        ({"--backend": "arm"}, "backend must be one of"),
        ({"--reconstruction": "magic"}, "unknown reconstruction 'magic': use adaround, brecq"),
        ({"--data": "nowhere"}, "--data must be a folder of images or an .npz file"),
        ({"--weights": "nowhere.pt"}, "there is no weights file 'nowhere.pt'"),
        ({"--out": "nowhere/model.repq"}, "--out: there is no folder 'nowhere'"),
        ({"--out": "model.pt"}, "--out must end in .repq, got 'model.pt'"),
        ({"--out": "/proc/model.repq"}, "--out: '/proc/model.repq': cannot write here"),
        ({"--eval-data": "nowhere"}, "--eval-data must be a folder of images or an .npz file"),
        ({"--float-layer": "stem.conv9"}, "Override: 'stem.conv9' matches no module"),
        ({"--max-drop": "1"}, "--max-drop applies to ultralytics:FILE only"),
        ({"--image-size": "2", "--mean": "0.5,0.5,0.5", "--std": "1,1,1"},
         "the model fails on an image of 3x2x2"),
        ({"MODEL": "weights.safetensors"}, "weights go to --weights"),
        ({"MODEL": "model.repq"}, "a quantized file is for repq bench, predict and val"),
        ({"MODEL": "builtins:int.from_bytes"}, "cannot import MODEL"),
        ({"MODEL": "my/nets.py:build"}, "a module is written with dots: my.nets:factory"),
        ({"MODEL": "./nets.py"}, "a module is written with dots: nets:factory"),
        ({"MODEL": "ultralytics:"}, "MODEL must be package.module:factory, timm:NAME, ultra"),
        ({"MODEL": "os:listdir"}, "returned a list, not an nn.Module"),
        ({"MODEL": "torch.nn:Conv2d"}, "raised TypeError"),
        ({"--std": "0"}, "std must be positive and finite, got (0.0,)"),
        ({"--mean": "nan"}, "mean must be finite, got (nan,)"),
        ({"--mean": "a,b"}, "--mean must be numbers separated by commas"),
        ({"--image-size": "0"}, "image size must be at least 1"),
        ({"--calibration-images": "0"}, "--calibration-images must be at least 1"),
        ({"--threads": "0"}, "threads must be at least 1"),
    ],
    ids=lambda value: "-".join(value.values()).replace("/", "") if isinstance(value, dict) else "",
)  # fmt: skip
def test_bad_input_is_one_sentence(changes, message, repq, weights, image_pack, tmp_path):
    arguments = {
        "MODEL": MODEL, "--data": image_pack, "--weights": weights, "--out": tmp_path / "m.repq",
        "--image-size": 28, "--mean": "0.5", "--std": "0.5",
    } | changes  # fmt: skip
    model = arguments.pop("MODEL")
    code, _, error = repq("quantize", model, *(x for pair in arguments.items() for x in pair))
    assert code == 1
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.glob("m.repq*"))


class Scores(NamedTuple):
    classes: torch.Tensor


class Named(nn.Module):
    """Returns an object of a class of its own, which no file can hold."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        return Scores(self.layer(x).mean((2, 3)))


def test_what_cannot_be_saved_is_refused_before_calibration(
    repq, image_pack, tmp_path, monkeypatch
):
    monkeypatch.setattr(repq_fx.api, "quantize", None)
    code, _, error = repq(
        "quantize", f"{__name__}:Named", "--data", image_pack, "--out", tmp_path / "m.repq", *GREY
    )
    assert code == 1
    assert "what --out would hold cannot be saved: function <class" in error
    assert f"{__name__}.Scores'> cannot be stored in a model file (node 'scores'" in error
    assert len(error.strip().splitlines()) == 1


def fashion_arguments(weights, data, out, *options):
    return ("quantize", MODEL, "--weights", weights, "--data", data, "--out", out, *GREY, *options)


@pytest.fixture
def other_images(image_pack, tmp_path):
    return shutil.copy(image_pack, tmp_path / "other.npz")


def test_a_good_result_on_other_images_needs_no_warning(
    repq, weights, image_pack, other_images, tmp_path
):
    out = tmp_path / "m.repq"
    code, _, error = repq(*fashion_arguments(weights, image_pack, out, "--eval-data", other_images))
    assert code == 0
    assert error == ""  # Neither warnings nor, where it is no terminal, bars.
    report = json.loads((tmp_path / "m.repq.json").read_text())
    assert report["warnings"] == []
    assert report["rows"][1]["sqnr_db"] >= 15


@pytest.mark.parametrize("named", [False, True])
def test_images_that_calibrate_and_are_evaluated_are_a_warning(
    named, repq, weights, image_pack, tmp_path
):
    out = tmp_path / "m.repq"
    evaluated = ("--eval-data", image_pack) if named else ()
    code, _, error = repq(
        *fashion_arguments(weights, image_pack, out, "--calibration-images", 20, *evaluated)
    )
    assert code == 0
    (warning,) = json.loads((tmp_path / "m.repq.json").read_text())["warnings"]
    assert "the 20 images that calibrate are among the 24 that are evaluated" in warning
    assert f"warning: {warning}" in error


def test_a_bad_result_names_the_layers_that_hurt_most(
    repq, weights, image_pack, other_images, tmp_path, monkeypatch
):
    monkeypatch.setattr("repq_fx.cli.caveats.LEAST_SQNR_DB", 1000)
    out = tmp_path / "m.repq"
    code, _, _ = repq(
        *fashion_arguments(weights, image_pack, out, "--eval-data", other_images,
                           "--calibration-images", 15)
    )  # fmt: skip
    assert code == 0
    few, bad = json.loads((tmp_path / "m.repq.json").read_text())["warnings"]
    assert few.startswith("only 15 image(s) calibrate; give at least 16")
    assert re.search(r"far from FP32 \(SQNR -?\d+\.\d dB, agreement \d+\.\d %\)", bad)
    named = re.findall(r"([\w.]+) \(\d+%\)", bad)
    assert len(named) == 3
    assert len(set(named)) == 3
    merged = repq_fx.reparameterize(fashion_repvgg().eval(), torch.randn(1, 1, 28, 28))
    assert set(named) <= set(dict(merged.named_modules()))


def test_a_layer_stays_in_float(repq, weights, image_pack, tmp_path):
    out = tmp_path / "m.repq"
    code, output, _ = repq(
        *fashion_arguments(weights, image_pack, out, "--float-layer", "classifier")
    )
    assert code == 0
    assert "Linear (1)" in output
    report = json.loads((tmp_path / "m.repq.json").read_text())
    assert report["rows"][1]["float_operations"]["Linear"] == 1
    assert report["scheme"]["overrides"][0]["target"] == "classifier"


def test_reports_have_types_units_versions_and_preprocessing(repq, weights, image_pack, tmp_path):
    code, _, _ = repq(*fashion_arguments(weights, image_pack, tmp_path / "m.repq"))
    assert code == 0
    report = json.loads((tmp_path / "m.repq.json").read_text())
    scheme, image = report["scheme"], report["protocol"]["image"]
    assert (scheme["weight_bits"], scheme["gptq"], scheme["refit"]) == (8, True, None)
    assert scheme["weight"]["type"] == "CoarseFine"
    assert scheme["weight"]["threshold"] == 1.25
    assert (image["channels"], image["height_pixels"]) == (1, 28)
    assert (image["mean"], image["std"]) == ([0.5], [0.5])
    packages = report["environment"]["packages"]
    assert packages["repq_fx"] == repq_fx.__version__
    assert packages["torch"] == torch.__version__
    assert report["environment"]["machine"]["cores"] > 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [([10], "labels from 10 to 10, but the model scores 10 classes, 0 to 9"),
     ([-1], "labels from -1 to -1")],
    ids=["too-large", "negative"],
)  # fmt: skip
def test_labels_of_a_file_must_be_classes_of_the_model(labels, message, repq, weights, tmp_path):
    np.savez(
        tmp_path / "x.npz", images=np.zeros((20, 28, 28), np.uint8), labels=np.array(labels * 20)
    )
    code, _, error = repq(*fashion_arguments(weights, tmp_path / "x.npz", tmp_path / "m.repq"))
    assert code == 1
    assert message in error
    assert not (tmp_path / "m.repq").exists()


def test_subfolders_that_are_no_classes_are_not_taken_for_them(repq, weights, tmp_path):
    generator = np.random.default_rng(0)
    for index in range(16):
        folder = tmp_path / "images" / f"day{index % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (28, 28), np.uint8)).save(
            folder / f"{index}.png"
        )
    code, _, _ = repq(*fashion_arguments(weights, tmp_path / "images", tmp_path / "m.repq"))
    assert code == 0
    report = json.loads((tmp_path / "m.repq.json").read_text())
    assert "the model scores 10 classes, but" in report["warnings"][0]
    assert "has 2 subfolders" in report["warnings"][0]
    assert report["rows"][0]["top1_percent"] is None


def test_learning_has_a_default_number_of_images(repq, weights, image_pack, tmp_path, monkeypatch):
    seen = {}

    def learn(network, calibration, example, **options):
        seen.update(images=sum(map(len, calibration)), **options)
        raise RepqError("enough")

    monkeypatch.setattr(repq_fx.api, "quantize", learn)
    images = np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8)
    np.savez(tmp_path / "x.npz", images=images)
    options = ("--reconstruction", "RepAPQ", "--eval-data", image_pack)
    repq(*fashion_arguments(weights, tmp_path / "x.npz", tmp_path / "m.repq", *options))
    assert seen["images"] == 256
    assert seen["reconstruction"] == RepAPQ()
    code, _, error = repq(*fashion_arguments(weights, image_pack, tmp_path / "m.repq", *options))
    assert code == 1
    assert "--reconstruction repapq learns from batches of 32, but of 24 images 3 are held" in error


def test_networks_with_several_outputs_are_compared(repq, image_pack, tmp_path):
    code, _, _ = repq(
        "quantize", f"{__name__}:Pair", "--data", image_pack, "--out", tmp_path / "m.repq", *GREY
    )
    assert code == 0
    row = json.loads((tmp_path / "m.repq.json").read_text())["rows"][1]
    assert row["sqnr_db"] > 20
    assert row["top1_percent"] is None


class Pair(nn.Module):
    """Returns two maps."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3)

    def forward(self, x):
        features = self.first(x).relu()
        return features, self.second(features)
