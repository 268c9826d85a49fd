"""timm's models by name, with their own transforms and weights."""

import numpy as np
import pytest
import torch
from PIL import Image

import repq_fx
from repq_fx import RepqError, Scheme
from repq_fx.integrations import timm as adapter

timm = pytest.importorskip("timm", reason="timm is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = Scheme(gptq=False, output_search=False, sequential_ranges=False, equalization=False)
NAME = "repvgg_a0"


@pytest.fixture
def folder(tmp_path):
    """Six noise images of two classes."""
    generator = np.random.default_rng(0)
    for index in range(6):
        path = tmp_path / "images" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (80, 100, 3), np.uint8)).save(path)
    return tmp_path / "images"


def small_model():
    torch.manual_seed(0)
    model = timm.create_model(NAME, num_classes=10).eval()
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 64, 64)}
    return model


def test_calibrates_with_the_models_own_transform(folder, monkeypatch):
    model, seen = small_model(), []
    original = adapter.api.quantize

    def watched(network, data, **options):
        seen.append(data)
        return original(network, data, **options)

    monkeypatch.setattr(adapter.api, "quantize", watched)
    int8 = adapter.quantize(model, folder, scheme=QUICK, images=5, batch=2, progress=False)
    batches = seen[0]
    assert [tuple(images.shape) for images in batches] == [(2, 3, 64, 64)] * 2 + [(1, 3, 64, 64)]
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    first = Image.open(sorted(folder.rglob("*.png"))[0]).convert("RGB")
    assert torch.equal(batches[0][0], transform(first))
    with torch.no_grad():
        images = torch.cat(batches)
        assert repq_fx.analysis.sqnr_db(model(images), int8(images)) > 10


def test_by_name_with_weights(tmp_path):
    torch.manual_seed(1)
    trained = timm.create_model(NAME).eval()
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    images = torch.randn(2, 3, 64, 64)
    int8 = adapter.quantize(
        NAME, images, weights=tmp_path / "weights.pth", scheme=QUICK, progress=False
    )
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(trained(images), int8(images)) > 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "repvgg_z9"}, "timm has no model 'repvgg_z9'"),
        ({"data": "nowhere"}, "there is no folder of images 'nowhere'"),
        ({"weights": "nowhere.pth"}, "there is no weights file 'nowhere.pth'"),
        ({"images": 0}, "images must be at least 1, got 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_refusals(change, message, folder):
    options = {"model": NAME, "data": folder} | change
    with pytest.raises((RepqError, ValueError), match=message):
        adapter.quantize(options.pop("model"), options.pop("data"), **options)


def test_damaged_input_is_named(folder, tmp_path, caplog):
    (tmp_path / "weights.pth").write_bytes(b"nothing")
    with pytest.raises(RepqError, match=r"weights\.pth' do not fit"):
        adapter.quantize(NAME, folder, weights=tmp_path / "weights.pth")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RepqError, match=r"cannot read the images of .*empty"):
        adapter.quantize(NAME, tmp_path / "empty")
    path = folder / "a" / "0.png"
    path.write_bytes(path.read_bytes()[:1000])
    adapter.quantize(small_model(), folder, scheme=QUICK, progress=False)
    assert "Skipped sample (index 0)" in caplog.text
