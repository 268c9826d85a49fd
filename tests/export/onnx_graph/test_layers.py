"""Layers as they are written compute what reference layers do."""

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace

from repq_fx import CoarseFine
from repq_fx.backend.reference import ReferenceConv2d, ReferenceLinear
from repq_fx.export.onnx_graph.layers import WrittenConv2d, WrittenLinear, write_layers
from repq_fx.lowering.int8.instructions import LevelGrid
from repq_fx.quant import PerChannel

SPLIT = CoarseFine(threshold=0.0)


def conv_of(quantizer=SPLIT, **settings):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, **settings)
    return ReferenceConv2d(quantizer.quantize(conv.weight, 8), conv)


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": 1},
        {"padding": 2, "dilation": 2, "stride": 2},
        {"padding": 0},
        {"padding": (2, 0)},
        {"padding": "same"},
        {"padding": "valid"},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": 1, "groups": 2, "bias": False},
    ],
    ids=["same-size", "dilated", "unpadded", "uneven", "same", "valid", "reflected", "grouped"],
)
def test_a_split_convolution_is_the_sum_of_two(settings):
    conv = conv_of(**settings)
    assert conv.is_split
    image = torch.randn(2, 4, 9, 9)
    written = WrittenConv2d(conv, None)
    torch.testing.assert_close(written(image), conv(image), rtol=1e-5, atol=1e-5)


def test_the_coarse_part_of_what_keeps_its_size_is_1x1():
    written = WrittenConv2d(conv_of(padding=1), None)
    assert written.coarse is not None
    assert written.coarse.values.shape == (6, 4, 1, 1)


def test_a_split_linear_layer():
    torch.manual_seed(0)
    linear = nn.Linear(5, 3)
    weight = CoarseFine(threshold=0.0, whole_kernel=True).quantize(linear.weight, 4)
    layer = ReferenceLinear(weight, linear)
    inputs = torch.randn(2, 5)
    torch.testing.assert_close(WrittenLinear(layer, None)(inputs), layer(inputs))


def test_a_bias_in_the_steps_of_the_products():
    conv, step = conv_of(PerChannel(), padding=1), 0.02
    written = WrittenConv2d(conv, LevelGrid(step, 3))
    assert written.bias is None
    assert written.integer_bias is not None
    assert written.integer_bias.values.dtype == torch.int32
    assert torch.equal(written.weight.values, conv.values)
    error = written.real_bias() - conv.bias
    assert (error.abs() <= 0.5 * step * conv.scale + 1e-9).all()


def test_a_dead_channel_has_room_for_its_bias():
    conv = nn.Conv2d(4, 6, 3, padding=1)
    with torch.no_grad():
        conv.weight[2] *= 1e-20
        conv.bias[2] = 3.0
    dead = ReferenceConv2d(PerChannel().quantize(conv.weight, 8), conv)
    image = torch.randint(0, 256, (2, 4, 9, 9)) * 0.02
    written = WrittenConv2d(dead, LevelGrid(0.02, 0))
    torch.testing.assert_close(written(image), dead(image), rtol=1e-4, atol=1e-4)


def test_a_layer_that_reads_no_grid_keeps_its_float_bias():
    graph_module = symbolic_trace(nn.Sequential(nn.ReLU(), nn.Conv2d(4, 6, 3)))
    graph_module.set_submodule("1", conv_of(PerChannel()))
    write_layers(graph_module, dequantizes_all=True)
    (written,) = (m for m in graph_module.modules() if isinstance(m, WrittenConv2d))
    assert written.integer_bias is None
    assert written.bias is not None


def test_what_is_padded_is_dequantized_again():
    conv, grid = conv_of(PerChannel(), padding=1, padding_mode="reflect", bias=False), (0.02, 100)
    image = LevelGrid(*grid).dequantize(torch.randint(0, 256, (2, 4, 9, 9), dtype=torch.uint8))
    assert torch.equal(WrittenConv2d(conv, LevelGrid(*grid))(image), conv(image))
