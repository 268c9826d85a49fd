"""Gradients of the network's outputs, against autograd through the whole network."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import Interpreter

from repq_fx import BRECQ
from repq_fx.reconstruct.activation_store import ActivationStore
from repq_fx.reconstruct.part_data import NetworkData
from repq_fx.reconstruct.partition import Partition
from repq_fx.reconstruct.rest_of_network import OutputGradients, RestOfNetwork
from tests.reconstruct.nets import Chain, CutNet, Detector, HalfReturned, Residual, Split

CPU = torch.device("cpu")


class Replacing(Interpreter):
    """Runs a network with some values replaced."""

    def __init__(self, network, values):
        super().__init__(network)
        self.replaced = values

    def run_node(self, n):
        return self.replaced[n.name] if n.name in self.replaced else super().run_node(n)


def distance(found, wanted):
    if wanted.dim() > 2:
        return (found - wanted).square().sum() / 2
    scores, logs = wanted.softmax(1), (wanted.log_softmax(1), found.log_softmax(1))
    return (scores * (logs[0] - logs[1])).sum()


def expected_gradients(cut, unit, outputs):
    leaves = {
        name: value.clone().requires_grad_()
        for name, value in zip(unit.outputs, outputs, strict=True)
    }
    with torch.no_grad():
        wanted = cut.original(cut.data)
    found = Replacing(cut.original, leaves).run(cut.data)
    if not isinstance(found, tuple):
        found, wanted = (found,), (wanted,)
    total = sum(distance(*pair) for pair in zip(found, wanted, strict=True))
    gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    pairs = zip(gradients, leaves.values(), strict=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in pairs]


class Perturbed(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, input):
        return 1.25 * self.layer(input) + 0.1


@pytest.mark.parametrize("partition", [Partition.LAYERS, Partition.BLOCKS], ids=str)
@pytest.mark.parametrize("net", [Chain, Residual, Split, Detector, HalfReturned])
def test_gradients_are_those_through_the_whole_network(net, partition):
    cut = CutNet(net(), partition)
    cut.data = cut.data.half().float()
    (name,) = [n.name for n in cut.refined.graph.nodes if n.op == "placeholder"]
    images = torch.arange(len(cut.data))
    layers = {layer for unit in cut.units for layer in unit.layers}
    quantized = {n: Perturbed(v) if n in layers else v for n, v in cut.values.items()}
    with ActivationStore(len(cut.data), 2**30) as store:
        data = NetworkData(store, BRECQ(batch_size=4), CPU, {name: cut.data})
        behind = RestOfNetwork(cut.original, cut.stored)
        gradients = OutputGradients(behind, data)
        for index, unit in enumerate(cut.units):
            part = unit.module(quantized)
            data.store_exact(unit, unit.module(cut.values))
            found = gradients.at(unit, cut.units[: index + 1], part, images)
            with torch.no_grad():
                outputs = part(*data.quantized(unit.inputs, images))
            for gradient, wanted in zip(found, expected_gradients(cut, unit, outputs), strict=True):
                assert gradient.shape == wanted.shape
                error = (gradient - wanted).norm()
                assert error <= 0.02 * wanted.norm() + 1e-9
            data.store_quantized(unit, part)
            # As in a run: only what is still read is kept.
            needed = {n for other in cut.units[index + 1 :] for n in other.inputs}
            data.keep_only(needed | behind.needed(cut.units[: index + 1]))


def test_where_nothing_is_quantized_there_is_no_gradient():
    cut = CutNet(Residual(), Partition.BLOCKS)
    cut.data = cut.data.half().float()
    unit, images = cut.units[0], torch.arange(8)
    with ActivationStore(8, 2**30) as store:
        (name,) = [n.name for n in cut.refined.graph.nodes if n.op == "placeholder"]
        data = NetworkData(store, BRECQ(), CPU, {name: cut.data})
        part = unit.module(cut.values)
        data.store_exact(unit, part)
        behind = RestOfNetwork(cut.original, cut.stored)
        found = OutputGradients(behind, data).at(unit, [unit], part, images)
        assert max(g.abs().max().item() for g in found) < 1e-3
        data.store_fisher(unit, lambda i: [torch.full((len(i), 8, 8, 8), 3.0)])
        (weight,) = data.batch(unit, 0, images, None).weights
        assert F.mse_loss(weight, torch.ones_like(weight)) < 1e-6
