"""`repq quantize`: results, files, and one sentence for bad input."""

import json
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import repq_fx

MODEL = "repq_fx.models:fashion_repvgg"
GREY = ("--image-size", 28, "--mean", "0.5", "--std", "0.5")


def test_writes_model_and_report(repq, weights, image_pack, tmp_path):
    out = tmp_path / "model.repq"
    code, output, _ = repq(
        "quantize", MODEL, "--weights", weights, "--data", image_pack, "--out", out,
        "--scheme", "w6a6", "--calibration-images", 8, *GREY,
    )  # fmt: skip
    assert code == 0
    assert "INT8 w6a6" in output
    report = json.loads((tmp_path / "model.repq.json").read_text())
    assert [row["name"] for row in report["rows"]] == ["FP32, merged", "INT8 w6a6"]
    row = report["rows"][1]
    assert row["size_bytes"] == out.stat().st_size
    assert 0 <= row["top1"] <= 100
    assert row["agreement"] is not None
    assert row["latency"]["median"] > 0
    assert "24 images, the first 8 calibrated" in report["protocol"]
    assert repq_fx.load(out)(torch.randn(2, 1, 28, 28)).shape == (2, 10)


def test_without_labels_reports_similarity_only(repq, weights, tmp_path):
    images = np.random.default_rng(0).normal(size=(6, 1, 28, 28)).astype(np.float32)
    np.savez(tmp_path / "images.npz", images=images)
    code, _, _ = repq(
        "quantize", MODEL, "--weights", weights, "--data", tmp_path / "images.npz",
        "--out", tmp_path / "m", *GREY,
    )  # fmt: skip
    assert code == 0
    row = json.loads((tmp_path / "m.json").read_text())["rows"][1]
    assert row["top1"] is None
    assert row["sqnr_db"] > 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL": "fashion_repvgg"}, "MODEL must be package.module:factory or timm:NAME"),
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
        ({"--mean": "a,b"}, "--mean must be numbers separated by commas"),
        ({"--image-size": "0"}, "image size must be at least 1"),
        ({"--calibration-images": "0"}, "--calibration-images must be at least 1"),
        ({"--threads": "0"}, "threads must be at least 1"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_bad_input_is_one_sentence(changes, message, repq, weights, image_pack, tmp_path):
    arguments = {
        "MODEL": MODEL, "--data": image_pack, "--weights": weights, "--out": tmp_path / "m",
        "--image-size": 28, "--mean": "0.5", "--std": "0.5",
    } | changes  # fmt: skip
    model = arguments.pop("MODEL")
    code, _, error = repq("quantize", model, *(x for pair in arguments.items() for x in pair))
    assert code == 1
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "m").exists()


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
        "quantize", f"{__name__}:Named", "--data", image_pack, "--out", tmp_path / "m", *GREY
    )
    assert code == 1
    assert "what --out would hold cannot be saved: function <class" in error
    assert f"{__name__}.Scores'> cannot be stored in a model file (node 'scores'" in error
    assert len(error.strip().splitlines()) == 1
