"""The float network in a prepared one."""

import torch
from torch import nn

import repq_fx
from repq_fx import Scheme, api
from repq_fx.quant import ActivationObserver
from repq_fx.refine.float_network import float_network


def test_it_computes_what_was_prepared_and_shares_its_layers():
    images = torch.randn(4, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).eval()
    merged = repq_fx.reparameterize(net, images)
    expected = merged(images)
    prepared = api.prepare(merged, images, Scheme())
    before = str(prepared.graph)
    result = float_network(prepared)
    assert torch.equal(result(images), expected)
    assert not any(isinstance(module, ActivationObserver) for module in result.modules())
    assert str(prepared.graph) == before
    assert set(result.parameters()) <= set(prepared.parameters())
