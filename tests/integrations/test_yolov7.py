"""YOLOv7 models: merged and quantized ones decode, pickle and load as the repository's own."""

import copy
import importlib
import sys
import warnings

import pytest
import torch
from PIL import Image
from torch import nn

from repq_fx import Scheme, analysis
from repq_fx.errors import CalibrationError, RepqError
from repq_fx.integrations import yolov7

from ..example_scripts import run_example
from ..real_models import conv_count, randomize

pytestmark = pytest.mark.filterwarnings("ignore")  # Of the repository, about its own code.

QUICK = Scheme(gptq=False, output_search=False, sequential_ranges=False)
HEADS = ("Detect", "IDetect", "IAuxDetect")
ANCHORS = [[8, 9, 12, 20], [24, 20, 30, 50], [60, 40, 70, 90], [100, 120, 180, 150]]


def description(head):
    """A few layers of each kind, with four levels and as many outputs for training if IAuxDetect.

    The layers of stride 8, 16, 32 and 64 are 4, 11, 8 and 12.
    """
    backbone = [
        [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "RepConv", [8, 3, 1]],
        [-1, 1, "Conv", [16, 3, 2]], [-1, 2, "RepConv", [16, 3, 1]], [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "SPPCSPC", [16]], [-1, 1, "MP", []], [-1, 1, "Conv", [24, 3, 1]],
    ]  # fmt: skip
    layers = [
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]], [[-1, 6], 1, "Concat", [1]],
        [-1, 1, "RepConv", [16, 3, 1]], [8, 1, "Conv", [24, 3, 2]],
    ]  # fmt: skip
    sources = [4, 11, 8] if head != "IAuxDetect" else [4, 11, 8, 12]
    anchors = ANCHORS[: len(sources)]
    if head == "IAuxDetect":
        layers += [[source, 1, "Conv", [16, 3, 1]] for source in sources]
        sources = [*sources, 13, 14, 15, 16]
    layers.append([sources, 1, head, ["nc", "anchors"]])
    return {
        "nc": 3, "depth_multiple": 1.0, "width_multiple": 1.0, "anchors": anchors,
        "backbone": backbone, "head": layers,
    }  # fmt: skip


@pytest.fixture(scope="module")
def repository():
    """The package, which warns while it is imported."""
    path = list(sys.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in ("models.yolo", "models.experimental", "utils.general"):
            pytest.importorskip(
                f"yolov7.{module}", reason="yolov7detect is not installed", exc_type=ImportError
            )
        yield importlib.import_module("yolov7")
    sys.path[:] = path  # It adds its folder, whose `test` and `utils` are other modules.


@pytest.fixture(scope="module")
def build(repository):
    """A function from a head to a network with it, which tests share and must not change."""
    built = {}

    def network(head="IDetect"):
        if head not in built:
            torch.manual_seed(0)
            model = repository.models.yolo.Model(description(head)).eval().requires_grad_(False)
            for name, parameter in model.named_parameters():
                if "implicit" in name:  # Nearly neutral at first.
                    parameter.add_(torch.randn_like(parameter), alpha=0.3)
            model.names = ["a", "b", "c"]
            built[head] = randomize(model, (4, 3, 128, 128))
        return built[head]

    return network


@torch.no_grad()
def boxes(model, image):
    return model(image)[0]


def merged_convs(module):
    if type(module).__name__ == "RepConv" or isinstance(module, nn.Conv2d):
        return 1
    return sum(merged_convs(child) for child in module.children())


@pytest.mark.parametrize("head", HEADS)
def test_merged_model_is_equal(head, build):
    model = build(head)
    before = copy.deepcopy(model.state_dict())
    merged = yolov7.merge(model, imgsz=128)
    assert type(merged) is type(model)
    assert type(merged.model[-1]).__name__ == "Detect"
    assert not any(isinstance(module, nn.BatchNorm2d) for module in merged.modules())
    used = list(model.model)[:12] + ([model.model[12]] if head == "IAuxDetect" else [])
    expected = sum(merged_convs(layer) for layer in used) + len(model.model[-1].m)
    assert conv_count(merged.model[0].graph) == expected
    names = {str(node.target) for node in merged.model[0].graph.graph.nodes}
    assert not any("implicit" in name for name in names)
    for shape in ((1, 3, 128, 128), (3, 3, 64, 192)):
        image = torch.rand(shape)
        torch.testing.assert_close(boxes(merged, image), boxes(model, image), rtol=1e-5, atol=1e-3)
        with torch.no_grad():
            raw, own = merged(image)[1], model(image)[1]
        assert [tuple(m.shape) for m in raw] == [tuple(m.shape) for m in own]
    after = model.state_dict()
    assert len(before) == len(after)
    assert all(torch.equal(before[name], after[name]) for name in after)


@pytest.mark.parametrize("head", HEADS)
def test_model_that_their_loader_fused(head, build, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = tmp_path / "model.pt"
    torch.save({"model": build(head), "ema": None}, path)
    fused = repository.models.experimental.attempt_load(str(path), map_location="cpu")
    image = torch.rand(1, 3, 64, 64)
    merged = yolov7.merge(fused, imgsz=64)
    torch.testing.assert_close(
        boxes(merged, image), boxes(build(head), image), rtol=1e-5, atol=1e-3
    )


def test_quantized_model_is_close_and_survives_its_loader(build, repository, tmp_path, monkeypatch):
    model = build()
    images = torch.rand(8, 3, 128, 128)
    int8 = yolov7.quantize(model, images, scheme=QUICK, progress=False)
    for shape in ((2, 3, 128, 128), (1, 3, 96, 160)):
        image = torch.rand(shape)
        expected, found = boxes(model, image), boxes(int8, image)
        assert analysis.sqnr_db(expected[..., :4], found[..., :4]) > 15
        assert analysis.sqnr_db(expected[..., 4:], found[..., 4:]) > 15
    detections = repository.utils.general.non_max_suppression(found, 0.01, 0.5)
    assert [d.shape[1] for d in detections] == [6]
    with torch.no_grad():
        assert int8(image, augment=True)[0].isfinite().all()

    path = tmp_path / "int8.pt"
    yolov7.save_checkpoint(int8, path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    loaded = repository.models.experimental.attempt_load(str(path), map_location="cpu")
    assert torch.equal(boxes(loaded, image), found)
    assert loaded.names == model.names
    assert int(loaded.stride.max()) == 32
    assert next(loaded.parameters()).dtype == torch.float32
    with pytest.raises(RepqError, match="merged or quantized already"):
        yolov7.merge(path)


def test_checkpoint_and_folder(build, tmp_path):
    for index, size in enumerate([(40, 30), (31, 64), (64, 64)]):
        Image.effect_noise(size, 50).convert("RGB").save(tmp_path / f"{index}.png")
    checkpoint = tmp_path / "model.pt"
    torch.save({"model": copy.deepcopy(build()).half(), "ema": None}, checkpoint)
    int8 = yolov7.quantize(
        checkpoint, tmp_path, scheme=QUICK, imgsz=64, images=2, batch=1, progress=False
    )
    image = torch.rand(1, 3, 64, 64)
    assert analysis.sqnr_db(boxes(build(), image), boxes(int8, image)) > 15


def test_example(build, repository, tmp_path, monkeypatch):
    for index in range(2):
        Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / f"{index}.png")
    checkpoint, output = tmp_path / "model.pt", tmp_path / "int8.pt"
    torch.save({"model": copy.deepcopy(build()), "ema": None}, checkpoint)
    run_example(monkeypatch, "yolov7_int8", checkpoint, tmp_path, output, "--imgsz", 64)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with torch.no_grad():
        loaded = repository.models.experimental.attempt_load(str(output), map_location="cpu")
    assert boxes(loaded, torch.rand(1, 3, 96, 64)).isfinite().all()


def test_refusals(build, repository, tmp_path):
    model = build()
    with pytest.raises(RepqError, match=r"expected a YOLOv7 Model .* got a Conv2d"):
        yolov7.merge(nn.Conv2d(3, 3, 1))
    for head in ("IKeypoint", "IBin"):
        other = copy.copy(model)
        other._modules = {"model": nn.Sequential(getattr(repository.models.yolo, head)(1, ANCHORS))}
        with pytest.raises(RepqError, match=f"the head {head} is not supported, only Detect"):
            yolov7.merge(other)
    with pytest.raises(RepqError, match="multiple of the stride 32, got 100"):
        yolov7.quantize(model, tmp_path, imgsz=100)
    with pytest.raises(RepqError, match="there are no images"):
        yolov7.quantize(model, tmp_path)
    with pytest.raises(CalibrationError, match=r"multiples of the stride 32, got \[1, 3, 64, 50\]"):
        yolov7.quantize(model, [torch.rand(2, 3, 64, 50)])
