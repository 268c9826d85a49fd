"""Whatever a trace or an export of a block of the zoo puts in a graph comes back as it was."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

import repq_fx
from repq_fx.export import unstorable
from repq_fx.passes.tracing.exported import export_trace

from .test_blocks import ZOO

# To export the whole zoo takes a minute.
EXPORTED = ("repvgg_squeezed", "vanillanet", "orepa", "attention", "two_heads", "conv3xc_stale")


def calls_of(graph):
    return [(node.op, node.name, node.target, str(node.args)) for node in graph.graph.nodes]


def assert_comes_back(graph, image, path):
    assert unstorable(graph) == []
    repq_fx.save(graph, path)
    loaded = repq_fx.load(path)
    assert calls_of(loaded) == calls_of(graph)
    known = graph.state_dict()
    assert all(torch.equal(known[name], value) for name, value in loaded.state_dict().items())
    with torch.no_grad():
        expected, found = tree_leaves(graph(image)), tree_leaves(loaded(image))
    # Kernels sum in another order for weights that begin elsewhere in memory.
    for first, second in zip(expected, found, strict=True):
        torch.testing.assert_close(second, first, rtol=1e-5, atol=1e-6)


def block_and_image(name):
    torch.manual_seed(0)
    entry = ZOO[name]
    return entry.build(1).eval(), torch.randn(2, entry.channels, *(9,) * entry.dims)


@pytest.mark.parametrize("name", ZOO)
def test_traced_blocks_of_the_zoo(name, tmp_path):
    block, image = block_and_image(name)
    assert_comes_back(repq_fx.trace(block, image), image, tmp_path / "model.repq")


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_blocks_of_the_zoo(name, tmp_path):
    block, image = block_and_image(name)
    assert_comes_back(export_trace(block, (image,)), image, tmp_path / "model.repq")
