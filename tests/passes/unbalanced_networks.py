"""Networks whose channels differ by orders of magnitude, and what equalization may do to them."""

import copy
from collections import OrderedDict
from functools import partial

import torch
from torch import nn
from torch.fx import GraphModule

from repq_fx.passes import trace
from repq_fx.passes.equalizing.channel_paths import find_channel_paths
from repq_fx.passes.equalizing.equalize import equalize_behind_activations
from repq_fx.passes.equalizing.layer_statistics import InputStatistics, measure_layers
from repq_fx.passes.gathering.functions import gather_functions


def graph_of(model, data):
    """The trace of `model`, in which functions of each element are layers."""
    graph = trace(model, data)
    gather_functions(graph, (data,))
    return graph


def chain(*layers):
    """A sequential net whose layers are called a, b, c, ..."""
    return nn.Sequential(OrderedDict(zip("abcdefgh", layers, strict=False)))


def conv(inputs, outputs, kernel_size=1, **options):
    return nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, **options)


def unbalanced(model, seed=0):
    """Random weights whose output channels differ by orders of magnitude, in float64."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                shape = (-1, *[1] * (module.weight.ndim - 1))
                size = module.weight.shape[0]
                spread = 10 ** (3 * torch.rand(size, generator=generator) - 1.5)
                module.weight.copy_(
                    torch.randn(module.weight.shape, generator=generator) * spread.view(shape)
                )
                if module.bias is not None:
                    module.bias.copy_(torch.randn(size, generator=generator) * spread)
    return model.double().eval()


def image(channels=3, size=8, batch=4):
    return torch.randn(batch, channels, size, size, dtype=torch.float64)


equalize_everywhere = partial(equalize_behind_activations, weight_bits=8, activation_bits=8)


def equalize_exactly(model, data, equalize=equalize_everywhere):
    """Equalize, check the function on other data and that the given graph stays."""
    graph = model if isinstance(model, GraphModule) else trace(model, data)
    before = copy.deepcopy(graph.state_dict())
    equalized = equalize(graph, data)
    after = graph.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    other = torch.randn_like(data)
    with torch.no_grad():
        expected = graph(other)
        error = (equalized(other) - expected).abs().max() / expected.abs().max()
    assert error < 1e-12
    return graph, equalized


def paths_of(model, data):
    graph = model if isinstance(model, GraphModule) else trace(model, data)
    measured = measure_layers(graph, data, InputStatistics.of)
    found = find_channel_paths(measured.graph_module, measured.shapes)
    return [(path.producer, *sorted(path.consumers)) for path in found]


def magnitude_of(graph, data, layer):
    """The largest magnitude of each channel that a layer reads."""
    channels = measure_layers(graph, data, InputStatistics.of).layers[layer]
    return torch.maximum(-channels.lowest, channels.highest)


def spread(graph, data, layer):
    magnitude = magnitude_of(graph, data, layer)
    return float(magnitude.max() / magnitude[magnitude > 0].min())
