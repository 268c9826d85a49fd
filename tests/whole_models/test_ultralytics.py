"""Blocks and whole detectors of ultralytics, against the training form."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.detectors import ultralytics
from tests.real_models import (
    TOLERANCE,
    Merged,
    conv_count,
    data_file,
    merge,
    norms_behind_convs,
    randomize,
    unused_tensors,
)

__all__ = ["ultralytics"]


class RawHead(nn.Module):
    """A detector without its decoding: the head's own boxes and scores."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        raw = self.detector(image)[1]
        return raw.get("one2one", raw)


class Neck(nn.Module):
    """A detector up to its decoder, whose selection of queries would amplify rounding."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.layers = detector.model[:-1]
        self.save = detector.save
        self.outputs = detector.model[-1].f

    def forward(self, x: Tensor) -> list[Tensor]:
        saved = []
        for layer in self.layers:
            if isinstance(layer.f, list):
                x = [x if index == -1 else saved[index] for index in layer.f]
            elif layer.f != -1:
                x = saved[layer.f]
            x = layer(x)
            saved.append(x if layer.i in self.save else None)
        return [saved[index] for index in self.outputs]


BLOCKS = {
    "RepConv": ("conv.RepConv", (16, 16), {"bn": True}, 1),
    "RepConv without identity": ("conv.RepConv", (16, 16), {}, 1),
    "RepConv of stride 2": ("conv.RepConv", (16, 24), {"s": 2}, 1),
    "RepConv of 4 groups": ("conv.RepConv", (16, 16), {"bn": True, "g": 4}, 1),
    "RepVGGDW": ("block.RepVGGDW", (16,), {}, 1),
    # Two convolutions beside n RepConv, and a third where the width changes.
    "RepC3": ("block.RepC3", (16, 16, 3), {}, 5),
    "RepC3 of half width": ("block.RepC3", (16, 24, 2), {"e": 0.5}, 5),
    # Two 1x1 and two 3x3 around two RepCSP, each with three 1x1, a RepConv and a 3x3.
    "RepNCSPELAN4": ("block.RepNCSPELAN4", (16, 32, 32, 16, 1), {}, 14),
}


@pytest.mark.parametrize(("path", "args", "options", "convs"), BLOCKS.values(), ids=BLOCKS.keys())
def test_block(path, args, options, convs, ultralytics):
    file, _, name = path.partition(".")
    block = getattr(getattr(ultralytics.nn.modules, file), name)(*args, **options)
    merged = merge(randomize(block, (4, 16, 15, 12)), torch.randn(2, 16, 15, 12))
    assert conv_count(merged.result) == convs
    require_merged(merged)


@pytest.mark.parametrize("name", ["yolov9t", pytest.param("yolov10n", marks=pytest.mark.slow)])
def test_yolo(name, ultralytics):
    detector = ultralytics.nn.tasks.DetectionModel(f"{name}.yaml", verbose=False)
    # YOLOv10 has two heads; this removes the one that is for training only.
    detector.model[-1].end2end = name == "yolov10n"
    detector.model[-1].fuse()
    model = randomize(RawHead(detector), (4, 3, 128, 128))
    merged = merge(model, torch.randn(1, 3, 128, 128))
    assert conv_count(merged.result) <= convs_when_fused(detector)
    require_merged(merged)


@pytest.mark.slow
def test_rtdetr(ultralytics):
    detector = ultralytics.nn.tasks.RTDETRDetectionModel("rtdetr-l.yaml", verbose=False).eval()
    # In float32 a random one of this depth amplifies rounding beyond the tolerance.
    model = randomize(Neck(detector), (4, 3, 128, 128)).double()
    merged = merge(model, torch.randn(1, 3, 128, 128, dtype=torch.float64))
    assert merged.error <= 1e-9
    decoder = conv_count(detector.model[-1])
    assert conv_count(merged.result) <= convs_when_fused(detector) - decoder
    require_merged(merged)


@pytest.mark.slow
def test_trained_yolov9t(ultralytics):
    path = data_file("weights/yolov9t_coco128.pt")
    detector = ultralytics.YOLO(path).model.float().eval()
    merged = merge(RawHead(detector).eval(), torch.rand(1, 3, 320, 320), a_photograph())
    assert conv_count(merged.result) <= convs_when_fused(detector)
    require_merged(merged)


def a_photograph() -> Tensor:
    import numpy as np
    from PIL import Image

    path = min(data_file("coco128/images/train2017").glob("*.jpg"))
    image = Image.open(path).convert("RGB").resize((320, 320))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


def convs_when_fused(detector: nn.Module) -> int:
    return conv_count(copy.deepcopy(detector).eval().fuse(verbose=False))


def require_merged(merged: Merged) -> None:
    assert merged.error <= TOLERANCE
    assert norms_behind_convs(merged.result) == []
    assert unused_tensors(merged.result) == []
