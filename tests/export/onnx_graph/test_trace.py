"""Sizes of inputs are free where a graph holds for others too, and fixed where it does not."""

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import PerChannel, Scheme
from repq_fx.errors import ExportError
from repq_fx.export.onnx_graph.trace import traced

SCHEME = Scheme(weight=PerChannel()).faster()


class Decided(nn.Module):
    """What it does is decided by the height of an image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, image):
        return self.conv(image) * (2.0 if image.shape[2] == 32 else 1.0)


class Two(nn.Module):
    """Two inputs and two outputs."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(5, 4)

    def forward(self, image, numbers):
        x = self.conv(image)
        return x + self.linear(numbers)[:, :, None, None], x


def reference_of(net, *inputs):
    torch.manual_seed(0)
    return repq_fx.quantize(
        net.eval(), [inputs], scheme=SCHEME, backend="reference", progress=False
    )


def free_axes(program):
    """Of each input, the axes whose sizes are symbols."""
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    inputs = [
        node.meta["val"] for node in nodes if node.name in program.graph_signature.user_inputs
    ]
    return [[axis for axis, size in enumerate(val.shape) if is_free(size)] for val in inputs]


def is_free(size):
    return isinstance(size, torch.SymInt) and not size.node.expr.is_number


def test_batch_height_and_width_are_free():
    images = torch.randn(4, 3, 32, 32)
    program = traced(reference_of(nn.Conv2d(3, 4, 3), images), (images,))
    assert free_axes(program) == [[0, 2, 3]]


def test_a_single_image_leaves_the_batch_free():
    images = torch.randn(4, 3, 32, 32)
    program = traced(reference_of(nn.Conv2d(3, 4, 3), images), (images[:1],))
    assert free_axes(program) == [[0, 2, 3]]


def test_a_size_that_decided_is_fixed():
    images = torch.randn(4, 3, 32, 40)
    program = traced(reference_of(Decided(), images), (images,))
    assert free_axes(program) == [[0, 3]]


def test_several_inputs():
    inputs = torch.randn(4, 3, 32, 32), torch.randn(4, 5)
    program = traced(reference_of(Two(), *inputs), inputs)
    assert free_axes(program) == [[0, 2, 3], [0]]


def test_what_torch_cannot_export_is_one_sentence():
    with pytest.raises(ExportError, match="torch cannot export the graph: "):
        traced(torch.fx.GraphModule(nn.ReLU(), broken_graph()), (torch.randn(2, 3),))


def broken_graph():
    """One whose result is read where it cannot be traced."""
    graph = torch.fx.Graph()
    image = graph.placeholder("image")
    graph.output(graph.call_function(float, (image,)))
    return graph
