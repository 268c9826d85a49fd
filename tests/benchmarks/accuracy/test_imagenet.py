"""The ImageNet benchmark on a folder of noise: it needs a data set that nobody can ship."""

import argparse

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.accuracy import cfws_paper, imagenet, repvgg_imagenet
from benchmarks.accuracy.cfws_paper import Histograms, Placement, Variant
from repq_fx import reparameterize
from repq_fx.lowering.grids import QUANTIZE
from repq_fx.models import RepVGG, cifar_repvgg


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for index in range(4):
        (tmp_path / "images" / f"class{index % 2}").mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (240, 300, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"class{index % 2}" / f"{index}.jpeg")
    return tmp_path


@pytest.mark.slow
def test_the_table_of_random_weights(folder, monkeypatch, capsys):
    tiny = ((8, 8, 8, 8, 8), (1, 1, 1, 1))
    monkeypatch.setitem(repvgg_imagenet.WIDTHS_AND_DEPTHS, "repvgg_a1", tiny)
    torch.save(RepVGG(*tiny, classes=1000).state_dict(), folder / "weights.pth")
    images = folder / "images"
    rows = imagenet.run(argparse.Namespace(
        data=images, train_data=images, model="repvgg_a1", weights=folder / "weights.pth",
        all=False, backend="reference", batch=2, seed=0, limit=4,
    ))  # fmt: skip
    assert len(rows) == 1 + len(cfws_paper.paper_variants()) + 2
    assert rows[0].get("published") == 74.5
    assert all(0 <= row.get("top1") <= 100 for row in rows)
    assert "74.2" in capsys.readouterr().out


def test_names_of_the_published_checkpoints():
    names = {
        "stage0.rbr_dense.conv.weight": "stem.dense.0.weight",
        "stage1.1.rbr_identity.running_mean": "stages.0.1.identity.running_mean",
        "module.stage3.13.rbr_1x1.bn.bias": "stages.2.13.pointwise.1.bias",
        "linear.bias": "classifier.bias",
    }
    assert {name: repvgg_imagenet.rename(name) for name in names} == names


def test_ranges_before_the_relu_are_centred_and_wide_enough():
    model = cifar_repvgg().eval()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    merged = reparameterize(model, images)
    histograms = Histograms.collect(merged, images)
    grids = {
        placement: _first_relu_grid(cfws_paper.quantize(
            merged, images, histograms, Variant("per tensor", "MinMax", placement), "reference"
        ))
        for placement in Placement
    }  # fmt: skip
    largest = {n: h.largest_magnitude for n, h in histograms.quantized.items()}
    first = next(iter(histograms.before_relu))
    wide = histograms.before_relu[first].largest_magnitude
    assert histograms.before_relu[first].is_two_sided
    assert grids[Placement.BEFORE_RELU] == pytest.approx((wide / 127, 128, 255))
    assert grids[Placement.AFTER_RELU_SIGNED] == pytest.approx((largest[first] / 127, 0, 127))
    assert grids[Placement.AFTER_RELU] == pytest.approx((largest[first] / 255, 0, 255))


def _first_relu_grid(graph):
    """Scale, zero point and largest integer of the second quantize op; the first is the image's."""
    node = [node for node in graph.graph.nodes if node.target is QUANTIZE][1]
    scale, zero_point = (
        float(getattr(graph, value.target)) if hasattr(value, "target") else value
        for value in node.args[1:3]
    )
    return scale, zero_point, node.args[4]
