"""`quantize` and `merge`: the same detections in float, close ones in INT8, and clear refusals."""

import copy
import importlib

import numpy as np
import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import Override, RepqError, Scheme
from repq_fx.integrations import ultralytics as adapter
from tests.detectors import SIDE
from tests.real_models import data_file

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = Scheme(gptq=False, output_search=False, sequential_ranges=False, equalization=False)
# A quarter of the classes' scores of a random detector are above this.
EVERYTHING = {"conf": 1e-6, "verbose": False, "max_det": 3000}


def raw(yolo, image):
    """Decoded boxes and scores, before anything is selected."""
    with torch.no_grad():
        output = copy.deepcopy(yolo.model).eval()(image)
    while isinstance(output, tuple | list):  # Decoded before raw, and boxes before masks.
        output = output[0]
    return output


def image(height=SIDE, width=SIDE, count=1):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "name", ["yolov8n", pytest.param("yolov9t", marks=pytest.mark.slow), "yolov10n", "yolo11n-seg",
             "yolov8n-pose", pytest.param("yolov8n-obb", marks=pytest.mark.slow)]
)  # fmt: skip
def test_merged_detections_are_the_same(name, make_yolo):
    yolo = make_yolo(name, classes=1 if "pose" in name else 2)
    before = copy.deepcopy(yolo.model.state_dict())
    merged = adapter.merge(yolo)
    assert type(merged) is type(yolo)
    assert type(merged.model) is type(yolo.model)
    for size in ((SIDE, SIDE), (SIDE, 64), (128, SIDE)):
        expected, found = raw(yolo, image(*size, 2)), raw(merged, image(*size, 2))
        assert expected.shape == found.shape
        boxes = expected[:, :4] if not yolo.model.end2end else expected[..., :4]
        assert (expected - found).abs().max() <= 1e-4 * max(1, boxes.abs().max())
    assert all(torch.equal(before[key], value) for key, value in yolo.model.state_dict().items())
    graph = merged.model.model[0].graph
    assert not any(isinstance(module, nn.BatchNorm2d) for module in graph.modules())


def test_detections_of_a_trained_model(ultralytics):
    yolo = ultralytics.YOLO(data_file("weights/yolov9t_coco128.pt"))
    merged = adapter.merge(yolo)
    convs = [m for m in merged.model.model[0].modules() if isinstance(m, nn.Conv2d)]
    before = [m for m in yolo.model.modules() if isinstance(m, nn.Conv2d)]
    assert len(before) - len(convs) == 42 + 1  # One of each RepConv; the head keeps its DFL.
    folder = data_file("coco128/images/train2017")
    found = 0
    for path in sorted(folder.glob("*.jpg"))[:6]:
        (expected,), (same,) = (m.predict(path, verbose=False) for m in (yolo, merged))
        assert torch.equal(expected.boxes.cls, same.boxes.cls)
        assert (expected.boxes.xyxy - same.boxes.xyxy).abs().max() <= 1e-3
        found += len(same.boxes)
    assert found > 6


@pytest.mark.slow
def test_rtdetr_in_int8(make_yolo, data, tmp_path):
    yolo = make_yolo("rtdetr-l", interface="RTDETR")
    quantized = adapter.quantize(yolo, data, scheme=QUICK, progress=False)
    with torch.no_grad():
        expected = adapter.detector.Network(yolo.model)(image())
        found = quantized.model.model[0](image())
    for known, level in zip(expected, found, strict=True):
        assert (known - level).square().sum() < 0.05 * known.square().sum()
    assert quantized.predict(np.zeros((80, 120, 3), np.uint8), verbose=False)[0].boxes is not None
    repq_fx.save(quantized, tmp_path / "model.repq")
    loaded = repq_fx.load(tmp_path / "model.repq")
    with torch.no_grad():
        assert all(map(torch.equal, found, loaded.model.model[0](image())))


def test_of_rtdetr_all_but_the_decoder(make_yolo):
    yolo = make_yolo("rtdetr-l", interface="RTDETR")
    merged = adapter.merge(yolo)
    assert merged.model.model[0].image_size is None
    for size in ((SIDE, SIDE), (64, 128)):
        with torch.no_grad():
            expected = adapter.detector.Network(yolo.model)(image(*size))
            found = merged.model.model[0](image(*size))
        for known, level in zip(expected, found, strict=True):
            assert (known - level).abs().max() <= 1e-3 * known.abs().max()
    assert merged.predict(np.zeros((80, 120, 3), np.uint8), verbose=False)[0].boxes is not None


@pytest.fixture(scope="module")
def int8(request):
    """One quantized detector for the tests that only use it."""
    cache = {}

    def get(make_yolo, data):
        if not cache:
            cache["yolo"] = make_yolo("tiny")
            cache["int8"] = adapter.quantize(
                cache["yolo"], data, scheme=QUICK, batch=4, progress=False
            )
        return cache["yolo"], cache["int8"]

    return get


def test_int8_is_close(int8, make_yolo, data):
    yolo, quantized = int8(make_yolo, data)
    assert adapter.float_layers(quantized) == []
    with torch.no_grad():
        exact = adapter.detector.Network(yolo.model)(image())
        found = quantized.model.model[0](image())
    for level, maps in enumerate(found):
        expected = torch.cat(exact[2 * level : 2 * level + 2], 1)
        noise = (expected - maps).square().sum() / expected.square().sum()
        assert noise < 0.05


def test_predict_val_and_track_take_the_usual_arguments(int8, make_yolo, data, tmp_path):
    _, quantized = int8(make_yolo, data)
    folder = data.parent / "images" / "val"
    found = quantized.predict(folder, imgsz=(64, 128), **EVERYTHING)
    assert [result.orig_shape for result in found] == [(80, 120)] * 6
    assert any(len(result.boxes) for result in found)
    frames = [np.full((90, 60, 3), value, np.uint8) for value in (50, 200)]
    assert len(quantized.predict(frames, **EVERYTHING)) == 2
    streamed = quantized.predict(frames, stream=True, **EVERYTHING)
    assert sum(1 for _ in streamed) == 2
    metrics = quantized.val(data=str(data), batch=3, plots=False, project=str(tmp_path))
    assert 0 <= metrics.box.map <= 1
    pytest.importorskip("lap", reason="the tracker of ultralytics needs lap")
    assert len(quantized.track(folder, **EVERYTHING)) == 6


def test_layers_in_float(make_yolo, data):
    scheme = QUICK.with_overrides(Override("model.0", None), Override("model.5.cv3", None))
    quantized = adapter.quantize(make_yolo("tiny"), data, scheme=scheme, progress=False)
    names = adapter.float_layers(quantized)
    assert all(name.startswith(("model.0.", "model.5.cv3.")) for name in names)
    assert len(names) == 1 + 6


def test_a_budget_leaves_the_most_sensitive_layers_in_float(make_yolo, data, monkeypatch):
    yolo = make_yolo("tiny")
    accuracies = iter([60.0, 58.0, 58.5, 59.8, 59.0, 59.7, 59.9])  # Of FP32, then of each trial.
    tried = []

    def measured(model, *_, **__):
        if adapter.is_quantized(model):
            tried.append(len(adapter.float_layers(model)))
        return next(accuracies), 0.0

    module = importlib.import_module("repq_fx.integrations.ultralytics.quantize")
    monkeypatch.setattr(module, "mean_average_precision", measured)
    quantized = adapter.quantize(yolo, data, scheme=QUICK, max_drop=0.5, progress=False)
    assert tried[0] == 0
    assert tried[1] < tried[2]
    assert 0 < len(adapter.float_layers(quantized)) <= tried[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"yolo": nn.Linear(2, 2)}, "expected an ultralytics YOLO or RTDETR, got a Linear"),
        ({"name": "yolov8n-cls"}, r"ClassificationModel \(task 'classify'\) is not supported"),
        ({"classes": 3}, "has 2 classes, but the model was trained for 3"),
        ({"imgsz": 100}, "imgsz must be a multiple of the stride 32, got 100"),
        ({"data": "nowhere.yaml"}, "cannot read the 'train' images of 'nowhere.yaml'"),
        ({"images": 0}, "images must be at least 1, got 0"),
        ({"max_drop": -1.0}, "max_drop must not be negative, got -1.0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_refusals(change, message, make_yolo, data):
    options = dict(change)
    yolo = options.pop("yolo", None)
    if yolo is None:
        name, classes = options.pop("name", "tiny"), options.pop("classes", 2)
        yolo = make_yolo(name, classes=classes) if "cls" not in name else _classifier(name)
    file = options.pop("data", data)
    with pytest.raises((RepqError, ValueError), match=message):
        adapter.quantize(yolo, file, **options)


def _classifier(name):
    return pytest.importorskip("ultralytics").YOLO(f"{name}.yaml")


def test_data_without_images(make_yolo, data, tmp_path):
    (tmp_path / "images").mkdir()
    file = tmp_path / "empty.yaml"
    file.write_text(f"path: {tmp_path}\ntrain: images\nval: images\nnames: [a, b]\n")
    with pytest.raises(RepqError, match=r"cannot read the 'train' images of .*empty.yaml"):
        adapter.quantize(make_yolo("tiny"), file)


def test_unreadable_images_are_passed_over_until_none_is_left(make_yolo, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no picture")
    file = tmp_path / "broken.yaml"
    file.write_text(f"path: {tmp_path}\ntrain: images\nval: images\nnames: [a, b]\n")
    with pytest.raises(RepqError, match=r"cannot read the 'train' images of .*broken.yaml"):
        adapter.quantize(make_yolo("tiny"), file)


def test_a_quantized_model_is_refused(int8, make_yolo, data):
    _, quantized = int8(make_yolo, data)
    with pytest.raises(RepqError, match="merged or quantized already"):
        adapter.quantize(quantized, data)


def test_the_missing_package_is_named(data, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ultralytics", None)
    with pytest.raises(RepqError, match="pip install ultralytics"):
        adapter.quantize(object(), data)
