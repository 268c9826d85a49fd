import pytest
import torch
from torch import nn
from torch.nn import functional as F

from repq_fx.errors import SizeError
from repq_fx.passes.tracing.exported import export_trace

REQUIRE = torch.ops.repq_fx.require_size.default


class Net(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.function = function

    def forward(self, x):
        return self.function(F.max_pool2d(self.conv(x), 2))


def exported(function, batch=2):
    model = Net(function).eval()
    return model, export_trace(model, (torch.randn(batch, 4, 8, 8),))


def checks(graph):
    return [node.args[3] for node in graph.graph.nodes if node.target == REQUIRE]


def test_small_images_pass_where_a_size_of_one_does_not_matter():
    model, graph = exported(lambda x: F.relu(x + x.mean((2, 3), keepdim=True)))
    assert checks(graph) == []
    for shape in [(1, 4, 2, 2), (3, 4, 3, 9)]:
        image = torch.randn(shape)
        torch.testing.assert_close(graph(image), model(image))


def doubled_if(axis):
    return lambda x: x * 2 if x.shape[axis] == 1 else x


@pytest.mark.parametrize(
    ("function", "shape", "message"),
    [
        (
            lambda x: x * 2 if x.shape[2] == 1 else x,
            (1, 4, 2, 8),
            r"size\(2\) // 2\) != 1\) is True",
        ),
        (lambda x: x * x.squeeze(3).dim(), (2, 4, 8, 3), r"size\(3\) // 2\) != 1\) is True"),
        (doubled_if(0), (1, 4, 8, 8), r"size\(0\) > 1\) is True"),
    ],
    ids=["question", "squeeze", "batch"],
)
def test_a_size_of_one_that_matters_is_refused(function, shape, message):
    _, graph = exported(function)
    with pytest.raises(SizeError, match=message):
        graph(torch.randn(shape))


def test_an_example_of_one_image_that_is_treated_in_its_own_way():
    model, graph = exported(doubled_if(0), batch=1)
    image = torch.randn(1, 4, 10, 6)
    torch.testing.assert_close(graph(image), model(image))
    with pytest.raises(SizeError, match=r"size\(0\) is 1; .* makes it 2"):
        graph(torch.randn(2, 4, 8, 8))


def test_an_example_of_zeros_hides_nothing():
    class Doubled(nn.Module):
        def forward(self, x):
            return x * 2 if x.shape[0] == 1 else x

    graph = export_trace(Doubled().eval(), (torch.zeros(2, 4, 8, 8),))
    with pytest.raises(SizeError):
        graph(torch.randn(1, 4, 8, 8))


def test_a_model_that_takes_only_values_such_as_those_of_the_example():
    class Picky(nn.Module):
        def forward(self, x):
            if not torch.compiler.is_compiling() and x.sum() < 100:
                raise ValueError("The image is dark.")
            return x * 2 if x.shape[0] == 1 else x

    graph = export_trace(Picky().eval(), (torch.full((2, 4, 8, 8), 9.0),))
    with pytest.raises(SizeError):
        graph(torch.randn(1, 4, 8, 8))


def test_small_sizes_of_related_inputs():
    class Fused(nn.Module):
        def forward(self, x, y):
            return (x + F.avg_pool2d(y, 2)) * (3 if x.shape[3] == 1 else 1)

    graph = export_trace(Fused().eval(), (torch.randn(1, 4, 4, 4), torch.randn(1, 4, 8, 8)))
    with pytest.raises(SizeError):
        graph(torch.randn(2, 4, 4, 1), torch.randn(2, 4, 8, 2))
