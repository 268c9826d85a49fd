"""YOLOv6 models: merged and quantized ones decode, pickle and load as the repository's own."""

import copy
import importlib
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from repq_fx import Scheme, analysis
from repq_fx.errors import CalibrationError, RepqError
from repq_fx.integrations import yolov6

from ..example_scripts import run_example
from ..real_models import conv_count, randomize

pytestmark = pytest.mark.filterwarnings("ignore")  # Of the repository, about its own code.

QUICK = Scheme(gptq=False, output_search=False, sequential_ranges=False)
BLOCKS = ("RepVGGBlock", "LinearAddBlock")  # Each becomes one convolution.
CASES = {
    "n": ("yolov6n", "repvgg", {}),
    "m with anchors for training": ("yolov6m", "repvgg", {"fuse_ab": True}),
    "n distilled": ("yolov6n", "repvgg", {"distill_ns": True}),
    "n of hyper search": ("yolov6n", "hyper_search", {}),
    "n of RepOpt": ("yolov6n", "repopt", {}),
    "n6 of four levels": ("yolov6n6", "repvgg", {}),
}


@pytest.fixture(scope="module")
def repository():
    """The package, which warns while it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in ("models.yolo", "utils.config", "utils.checkpoint", "utils.nms"):
            pytest.importorskip(
                f"yolov6.{module}", reason="yolov6detect is not installed", exc_type=ImportError
            )
        yield importlib.import_module("yolov6")


@pytest.fixture(scope="module")
def build(repository):
    """A function from a case to its network, which tests share and must not change."""
    built = {}

    def network(case="n"):
        if case not in built:
            torch.manual_seed(0)
            built[case] = _build(repository, *CASES[case])
        return built[case]

    return network


def _build(repository, file, mode, heads):
    path = Path(repository.__file__).parent / "configs" / f"{file}.py"
    config = repository.utils.config.Config.fromfile(str(path))
    config.training_mode = mode
    config.model.width_multiple, config.model.depth_multiple = 0.125, 0.1
    model = repository.models.yolo.Model(config, num_classes=3, **heads)
    with torch.no_grad():
        for name, module in model.detect.named_modules():
            if "_preds" in name and isinstance(module, nn.Conv2d):
                module.weight.normal_(0.0, 0.1)  # All zero at first.
    model.names, model.nc = ["a", "b", "c"], 3
    return randomize(model, (4, 3, 128, 128))


@torch.no_grad()
def boxes(model, image):
    return model(image)[0]


def merged_convs(module):
    if type(module).__name__ in BLOCKS or isinstance(module, nn.Conv2d):
        return 1
    return sum(merged_convs(child) for child in module.children())


@pytest.mark.parametrize("case", CASES)
def test_merged_model_is_equal(case, build):
    model = build(case)
    before = copy.deepcopy(model.state_dict())
    merged = yolov6.merge(model, imgsz=128)
    assert type(merged) is type(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in merged.modules())
    assert conv_count(merged.backbone.graph) == merged_convs(yolov6.Network(model))
    for shape in ((1, 3, 128, 128), (3, 3, 64, 192)):
        image = torch.rand(shape)
        torch.testing.assert_close(boxes(merged, image), boxes(model, image), rtol=1e-5, atol=1e-3)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in after)
    assert len(before) == len(after)


def test_fused_and_deployed_model(build, repository):
    model = copy.deepcopy(build()).requires_grad_(False)
    repository.utils.torch_utils.fuse_model(model)
    for module in model.modules():
        if type(module).__name__ == "RepVGGBlock":
            module.switch_to_deploy()
    image = torch.rand(1, 3, 96, 96)
    merged = yolov6.merge(model, imgsz=96)
    torch.testing.assert_close(boxes(merged, image), boxes(build(), image), rtol=1e-5, atol=1e-3)


def test_quantized_model_is_close_and_survives_its_loader(build, repository, tmp_path, monkeypatch):
    model = build()
    images = torch.rand(8, 3, 128, 128)
    int8 = yolov6.quantize(model, images, scheme=QUICK, progress=False)
    for shape in ((2, 3, 128, 128), (1, 3, 96, 160)):
        image = torch.rand(shape)
        expected, found = boxes(model, image), boxes(int8, image)
        assert analysis.sqnr_db(expected[..., :4], found[..., :4]) > 15
        assert analysis.sqnr_db(expected[..., 5:], found[..., 5:]) > 15
    detections = repository.utils.nms.non_max_suppression(found, 0.01, 0.5)
    assert [d.shape[1] for d in detections] == [6]

    path = tmp_path / "int8.pt"
    yolov6.save_checkpoint(int8, path)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    loaded = repository.utils.checkpoint.load_checkpoint(str(path), map_location="cpu")
    assert torch.equal(boxes(loaded, image), found)
    assert loaded.names == model.names
    assert int(loaded.stride.max()) == 32
    assert next(loaded.parameters()).dtype == torch.float32
    with pytest.raises(RepqError, match="merged or quantized already"):
        yolov6.merge(path)


def test_checkpoint_and_folder(build, tmp_path):
    for index, size in enumerate([(40, 30), (31, 64), (64, 64)]):
        Image.effect_noise(size, 50).convert("RGB").save(tmp_path / f"{index}.png")
    checkpoint = tmp_path / "model.pt"
    model = copy.deepcopy(build()).half()
    torch.save({"model": model, "ema": None}, checkpoint)
    int8 = yolov6.quantize(
        checkpoint, tmp_path, scheme=QUICK, imgsz=64, images=2, batch=1, progress=False
    )
    image = torch.rand(1, 3, 64, 64)
    assert analysis.sqnr_db(boxes(build(), image), boxes(int8, image)) > 15


def test_example(build, repository, tmp_path, monkeypatch):
    for index in range(2):
        Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / f"{index}.png")
    checkpoint, output = tmp_path / "model.pt", tmp_path / "int8.pt"
    torch.save({"model": copy.deepcopy(build()), "ema": None}, checkpoint)
    run_example(monkeypatch, "yolov6_int8", checkpoint, tmp_path, output, "--imgsz", 64)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with torch.no_grad():
        loaded = repository.utils.checkpoint.load_checkpoint(str(output), map_location="cpu")
    assert boxes(loaded, torch.rand(1, 3, 96, 64)).isfinite().all()


def test_refusals(build, tmp_path):
    model = build()
    with pytest.raises(RepqError, match=r"expected a YOLOv6 Model .* got a Conv2d"):
        yolov6.merge(nn.Conv2d(3, 3, 1))
    with pytest.raises(RepqError, match="multiple of the stride 32, got 100"):
        yolov6.quantize(model, tmp_path, imgsz=100)
    with pytest.raises(RepqError, match="there are no images"):
        yolov6.quantize(model, tmp_path)
    with pytest.raises(CalibrationError, match=r"multiples of the stride 32, got \[1, 3, 64, 50\]"):
        yolov6.quantize(model, [torch.rand(2, 3, 64, 50)])
    with pytest.raises(CalibrationError, match="calibration data is empty"):
        yolov6.quantize(model, [])
    other = copy.deepcopy(model)
    other.detect.seg_preds = nn.ModuleList()
    with pytest.raises(RepqError, match=r"only detection heads are supported; .* seg_preds"):
        yolov6.merge(other)
