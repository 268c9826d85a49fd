"""`repq bench`: rows, reasons, the report, and one sentence for bad input."""

import json

import pytest
import torch

import repq_fx
from repq_fx.cli import runtimes
from repq_fx.models import fashion_repvgg

MODEL = "repq_fx.models:fashion_repvgg"
QUICK = ("--size", "1,28,28", "--repeats", 2)


@pytest.fixture
def report(tmp_path):
    """Where the JSON goes, and a function that reads it."""
    path = tmp_path / "bench.json"
    return path, lambda: json.loads(path.read_text())


def test_float_and_int8_are_timed(repq, weights, report):
    path, read = report
    code, output, _ = repq(
        "bench", MODEL, "--weights", weights, "--runtime", "torch", "--runtime", "repq_fx",
        "--batch", 3, "--json", path, *QUICK,
    )  # fmt: skip
    assert code == 0
    assert "speed-" in output
    content = read()
    assert "1x28x28, batch 3, 1 thread(s)" in output
    assert content["protocol"]["latency"]["batch_size"] == 3
    assert content["protocol"]["image"]["width_pixels"] == 28
    rows = content["rows"]
    assert [row["name"] for row in rows] == ["FP32, torch", "INT8, repq_fx"]
    assert rows[0]["speedup"] == 1
    for row in rows:
        assert row["problem"] is None
        assert 0 < row["latency_ms"]["lower_quartile"] <= row["latency_ms"]["median"]


def test_images_in_place_of_noise(repq, image_pack, report):
    path, read = report
    code, _, _ = repq(
        "bench", MODEL, "--data", image_pack, "--runtime", "repq_fx", "--json", path, *QUICK
    )
    assert code == 0
    (row,) = read()["rows"]
    assert row["latency_ms"]["median"] > 0
    assert row["speedup"] is None  # The FP32 row was not asked for.


def test_what_is_not_installed_is_a_row_with_the_remedy(repq, report, monkeypatch):
    monkeypatch.setattr(runtimes, "find_spec", lambda _: None)
    path, read = report
    code, output, _ = repq(
        "bench", MODEL, "--runtime", "torch", "--runtime", "openvino", "--json", path, *QUICK
    )
    assert code == 0
    assert "pip install openvino nncf" in output
    by_name = {row["name"]: row for row in read()["rows"]}
    assert by_name["FP32, OpenVINO"]["problem"] == "not installed: pip install openvino"
    assert by_name["FP32, OpenVINO"]["latency_ms"] is None
    assert by_name["FP32, torch"]["latency_ms"]["median"] > 0


def test_what_fails_is_a_row_with_the_reason(repq, report, monkeypatch):
    def no_compiler(*args, **options):
        raise RuntimeError("no C++ compiler\nmore about it")

    monkeypatch.setattr(torch, "compile", no_compiler)
    path, read = report
    code, _, _ = repq(
        "bench", MODEL, "--runtime", "torch", "--runtime", "compile", "--json", path, *QUICK
    )
    assert code == 0
    assert read()["rows"][1]["problem"] == "RuntimeError: no C++ compiler"


def test_a_quantized_file_is_timed_as_it_is(repq, report, tmp_path):
    images = torch.randn(8, 1, 28, 28)
    file = tmp_path / "model.repq"
    repq_fx.save(repq_fx.quantize(fashion_repvgg().eval(), images, progress=False), file)
    path, read = report
    code, _, _ = repq("bench", file, "--json", path, *QUICK)
    assert code == 0
    (row,) = read()["rows"]
    assert row["name"] == "INT8, model.repq"
    code, _, error = repq("bench", file, "--runtime", "torch", "--json", path)
    assert code == 1
    assert "is quantized" in error


@pytest.mark.slow
def test_compiled(repq, report):
    path, read = report
    code, _, _ = repq("bench", MODEL, "--runtime", "compile", "--json", path, *QUICK)
    assert code == 0
    assert read()["rows"][0]["latency_ms"]["median"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL": "model.repq"}, "MODEL must be package.module:factory, timm:NAME, ultralytics:"),
        ({"--weights": "nowhere.pt"}, "there is no weights file 'nowhere.pt'"),
        ({"--data": "nowhere"}, "--data must be a folder of images or an .npz file"),
        ({"--json": "nowhere/b.json"}, "--json: there is no folder 'nowhere'"),
        ({"--json": "b.txt"}, "--json must end in .json, got 'b.txt'"),
        ({"--runtime": "tensorrt"}, "--runtime must be one of torch, compile, onnxruntime"),
        ({"--size": "28,28"}, "--size must be a side in pixels, or C,H,W"),
        ({"--size": "0"}, "--size must be a side in pixels, or C,H,W"),
        ({"--size": "3,28,28"}, "the model fails on an image of 3x28x28"),
        ({"--batch": 0}, "--batch must be at least 1, got 0"),
        ({"--threads": 0}, "--threads must be at least 1, got 0"),
        ({"--repeats": 1}, "--repeats must be at least 2, got 1"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_bad_input_is_one_sentence(changes, message, repq, tmp_path):
    arguments = {
        "MODEL": MODEL, "--size": "1,28,28", "--json": tmp_path / "b.json", "--runtime": "torch",
    } | changes  # fmt: skip
    model = arguments.pop("MODEL")
    code, _, error = repq("bench", model, *(x for pair in arguments.items() for x in pair))
    assert code == 1
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "b.json").exists()


def test_too_few_images_are_counted(repq, image_pack, tmp_path):
    code, _, error = repq(
        "bench", MODEL, "--data", image_pack, "--batch", 50, "--json", tmp_path / "b.json", *QUICK
    )
    assert code == 1
    assert "--data holds [24, 1, 28, 28], needed are at least [50, 1, 28, 28]" in error
