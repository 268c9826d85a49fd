"""The first and the last layers of a network, and their own width."""

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import api
from repq_fx.backend.reference import ReferenceLayer
from repq_fx.lowering.reference_grids import QUANTIZE
from repq_fx.refine.edge_layers import first_and_last_layers


class TwoStemsAndHeads(nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("left", "right", "body", "head", "shortcut"):
            setattr(self, name, nn.Conv2d(3, 3, 1))

    def forward(self, image):
        body = self.body(self.left(image).relu() + self.right(image))
        return self.head(body.relu()), torch.sigmoid(self.shortcut(body) + body)


def test_every_layer_that_reads_the_input_or_gives_an_output():
    graph = torch.fx.symbolic_trace(TwoStemsAndHeads())
    assert first_and_last_layers(graph) == {"left", "right", "head", "shortcut"}


def test_first_and_last_bits(small_net, images):
    merged = repq_fx.reparameterize(small_net, images)
    prepared = api.prepare(merged, images, repq_fx.Scheme(4, 4, first_last_bits=8))
    repq_fx.calibrate(prepared, images, progress=False)
    reference = repq_fx.convert(prepared, "reference")
    bits = {n: m.bits for n, m in reference.named_modules() if isinstance(m, ReferenceLayer)}
    assert bits == {"stem": 8, "body": 4, "depthwise": 4, "point": 4, "classifier": 8}
    tensors = [node for node in reference.graph.nodes if node.target is QUANTIZE]
    largest = {str(node.args[0]): node.args[4] for node in tensors}
    assert largest.pop("image") == largest.pop("flatten") == largest.pop("pool") == 255
    assert set(largest.values()) == {15}


def test_an_impossible_width_is_refused():
    with pytest.raises(ValueError, match=r"first_last_bits must be one of .* got 16"):
        repq_fx.Scheme(first_last_bits=16)
