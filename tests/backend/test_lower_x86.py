"""Lowering: what becomes integer, and how close it stays to the reference."""

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import api
from repq_fx.backend import lower_x86
from repq_fx.backend.int8_layers import CfwsConv2d, Int8Conv2d, Int8Layer, Int8Linear
from repq_fx.backend.reference import ReferenceConv2d
from repq_fx.models import repvgg_a0


def both(model, images, scheme):
    prepared = api.prepare(model, images, scheme)
    repq_fx.calibrate(prepared, images, progress=False)
    return repq_fx.convert(prepared, "reference"), repq_fx.convert(prepared, "x86")


@pytest.mark.parametrize("name", ["w8a8", "w6a6", "w4a8", "w4a4", "vanilla"])
def test_lowered_net_agrees_with_its_reference(name, small_net, images):
    reference, lowered = both(small_net, images, repq_fx.Scheme.from_name(name))
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(reference(images), lowered(images)) >= 40


def test_layers_become_integer_ones(small_net, images):
    _, lowered = both(small_net, images, repq_fx.Scheme())
    kinds = {name: type(lowered.get_submodule(name)) for name in
             ("stem", "body", "depthwise", "point", "classifier")}  # fmt: skip
    assert kinds["body"] is CfwsConv2d
    assert kinds["stem"] in (Int8Conv2d, CfwsConv2d)
    assert kinds["point"] is Int8Conv2d
    assert kinds["classifier"] is Int8Linear


def test_clipping_activations_are_fused_and_others_are_not(small_net, images):
    _, lowered = both(small_net, images, repq_fx.Scheme())
    left = {type(module) for module in lowered.modules()}
    assert nn.SiLU in left
    assert not left & {nn.ReLU, nn.ReLU6}
    # The network's output and what a swish reads are float32.
    assert lowered.get_submodule("classifier").output_scale is None
    assert lowered.get_submodule("depthwise").output_scale is None


def test_chain_passes_integers_from_layer_to_layer():
    model = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Conv2d(4, 4, 3), nn.ReLU())))
    images = torch.randn(4, 4, 12, 12)
    _, lowered = both(model.eval(), images, repq_fx.Scheme())
    targets = [str(node.target) for node in lowered.graph.nodes if node.op == "call_function"]
    assert targets == ["repq_fx.quantize.default"]


def test_what_has_no_integer_kernel_stays_a_reference_layer(images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU()).eval()
    reference, lowered = both(model, images, repq_fx.Scheme())
    assert isinstance(lowered.get_submodule("0"), ReferenceConv2d)
    assert torch.equal(reference(images), lowered(images))
    _, wide = both(model, images, repq_fx.Scheme(weight_bits=16))
    assert isinstance(wide.get_submodule("0"), ReferenceConv2d)


class CalledTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, image):
        return 3 * self.conv(self.conv(image))


def test_a_layer_that_is_called_twice_gets_two_grids():
    images = torch.randn(4, 4, 12, 12)
    model = CalledTwice().eval()
    reference, lowered = both(model, images, repq_fx.Scheme())
    assert sum(isinstance(module, Int8Layer) for module in lowered.modules()) == 2
    assert repq_fx.analysis.sqnr_db(reference(images), lowered(images)) >= 40


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_named_padding(padding):
    images = torch.randn(4, 4, 12, 12)
    model = nn.Sequential(nn.Conv2d(4, 4, 5, padding=padding, dilation=2), nn.ReLU()).eval()
    reference, lowered = both(model, images, repq_fx.Scheme())
    assert isinstance(lowered.get_submodule("0"), Int8Layer)
    assert repq_fx.analysis.sqnr_db(reference(images), lowered(images)) >= 40


def test_a_machine_without_vnni_is_told(small_net, images, monkeypatch, caplog):
    monkeypatch.setattr(lower_x86, "runs_on_onednn", lambda: False)
    both(small_net, images, repq_fx.Scheme.vanilla())
    assert "no VNNI" in caplog.text


@pytest.mark.slow
def test_a_whole_repvgg_a0_agrees_with_its_reference(randomize_batch_norm):
    images = torch.randn(4, 3, 224, 224)
    merged = repq_fx.reparameterize(randomize_batch_norm(repvgg_a0().eval()), images)
    reference, lowered = both(merged, images, repq_fx.Scheme())
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(reference(images), lowered(images)) >= 40
