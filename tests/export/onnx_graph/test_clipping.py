"""Grids that end where a ReLU does give the same levels without it."""

import pytest
import torch
from torch import nn
from torch.fx import GraphModule, symbolic_trace

from repq_fx.export.onnx_graph.clipping import clip_by_grids
from repq_fx.lowering.grids import DEQUANTIZE, QUANTIZE
from repq_fx.lowering.reference_view import is_quantize


class Rounded(nn.Module):
    def __init__(self, function, zero_point):
        super().__init__()
        self.function, self.grid = function, (0.05, zero_point, 0, 255, torch.uint8)

    def forward(self, image):
        levels = QUANTIZE(self.function(image), *self.grid)
        return DEQUANTIZE(levels, *self.grid)


def grids(graph_module):
    return [node.args[1:] for node in graph_module.graph.nodes if is_quantize(node)]


def functions(graph_module):
    return [node for node in graph_module.graph.nodes if node.op == "call_module"]


@pytest.mark.parametrize("zero_point", [0, 20, 128, 255])
@pytest.mark.parametrize("function", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.33, 0.52)])
def test_levels_stay_the_same(function, zero_point):
    graph_module = symbolic_trace(Rounded(function, zero_point))
    values = 8 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    expected = graph_module(values)
    clip_by_grids(graph_module)
    assert functions(graph_module) == []
    assert torch.equal(graph_module(values), expected)


def test_a_grid_that_begins_at_zero_stays():
    graph_module = symbolic_trace(Rounded(nn.ReLU(), 0))
    before = grids(graph_module)
    clip_by_grids(graph_module)
    assert grids(graph_module) == before


@pytest.mark.parametrize("function", [nn.SiLU(), nn.Identity()], ids=["silu", "identity"])
def test_other_functions_stay(function):
    graph_module = symbolic_trace(Rounded(function, 20))
    code = graph_module.code
    clip_by_grids(graph_module)
    assert graph_module.code == code


def test_what_others_read_too_stays():
    class Twice(Rounded):
        def forward(self, image):
            value = self.function(image)
            return QUANTIZE(value, *self.grid), value

    graph_module: GraphModule = symbolic_trace(Twice(nn.ReLU(), 20))
    clip_by_grids(graph_module)
    assert len(functions(graph_module)) == 1
