import pytest
import torch
from torch import nn
from torch.nn import functional as F

import repq_fx
from repq_fx.passes import trace
from repq_fx.passes.tracing.sizes.guards import is_size_guard
from tests.zoo.mobile import RepMixer, TextRepMixer


class OwnForward(nn.Conv2d):
    """Takes any number of channels."""

    def forward(self, input):
        return super().forward(input[:, :4])


class Net(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 1)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.SiLU()
        self.linear = nn.Linear(5, 3)
        self.layer_norm = nn.LayerNorm([6, 5])
        self.plain_norm = nn.InstanceNorm2d(4)
        self.leaf = OwnForward(4, 6, 1)
        self.other_leaf = OwnOnly(4, 6, 1)
        self.glu = nn.GLU(1)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


class OwnOnly(nn.Conv2d):
    """Brings a forward for one instance."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.forward = lambda x: super(OwnOnly, self).forward(x[:, :4])


def require(value, size):
    if size[0] != size[1]:
        raise ValueError("Another size.")
    return value


def unread(net, x):
    net.conv(x)
    return require(x, (x.shape[1], 4))


CERTAIN = {
    "of_an_input": lambda net, x: net.conv(require(x, (x.shape[1], 4))),
    "method": lambda net, x: net.conv(require(x, (x.size(1), 4))),
    "all_sizes": lambda net, x: net.conv(require(x, (x.size()[-3], 4))),
    "computed": lambda net, x: net.conv(require(x, (x.size(1) // 2 + 1, 3))),
    "of_a_layer": lambda net, x: require(y := net.conv(x), (y.shape[1], 6)),
    "of_a_block": lambda net, x: require(y := net.act(net.norm(net.conv(x))), (y.shape[1], 6)),
    "of_a_function": lambda net, x: require(y := F.relu(net.conv(x)).sigmoid(), (y.shape[1], 6)),
    "linear": lambda net, x: net.linear(require(x, (x.shape[-1], 5))),
    "layer_norm": lambda net, x: net.layer_norm(require(y := x.mean(1), (y.shape[-2], 6))),
    "two_layers": lambda net, x: require(y := net.conv(x), (y.shape[1], x.shape[1] + 2)),
    "halves": lambda net, x: torch.cat([p * 2 for p in net.act(net.conv(x)).chunk(2, 1)], 1),
    "parts": lambda net, x: torch.cat([part * 2 for part in net.conv(x).split(4, dim=1)], 1),
}
DOUBTFUL = {
    "height": lambda net, x: net.conv(require(x, (x.shape[2], 6))),
    "height_of_a_layer": lambda net, x: require(y := net.conv(x), (y.shape[2], 6)),
    "unread": unread,
    "no_weights": lambda net, x: net.plain_norm(require(x, (x.shape[1], 4))),
    "own_forward": lambda net, x: net.leaf(require(x, (x.shape[1], 4))),
    "forward_of_one": lambda net, x: net.other_leaf(require(x, (x.shape[1], 4))),
    "not_entrywise": lambda net, x: require(y := net.glu(x), (y.shape[1], 2)),
    "with_height": lambda net, x: net.conv(require(x, (x.shape[1] * x.shape[2], 24))),
}
DOUBTFUL_HALVES = {
    "of_an_input": lambda x: x.chunk(2, 1),
    "of_rows": lambda x: x.chunk(2, dim=2),
    "of_function": lambda x: torch.chunk(x, chunks=2, dim=2),
}


def guards(graph):
    return [node for node in graph.graph.nodes if is_size_guard(node)]


@pytest.mark.parametrize("function", CERTAIN.values(), ids=CERTAIN.keys())
def test_sizes_that_weights_fix_are_not_checked(function):
    model = Net(function).eval()
    graph = trace(model, torch.randn(2, 4, 6, 5))
    assert not guards(graph)
    assert not {"size", getattr} & {node.target for node in graph.graph.nodes}
    x = torch.randn(3, 4, 6, 5)
    torch.testing.assert_close(graph(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("function", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_other_sizes_are(function):
    graph = trace(Net(function).eval(), torch.randn(2, 4, 6, 5), leaves=[OwnForward, OwnOnly])
    assert len(guards(graph)) == 1


@pytest.mark.parametrize("cut", DOUBTFUL_HALVES.values(), ids=DOUBTFUL_HALVES.keys())
def test_halves_of_a_size_of_one_are_refused(cut):
    model = Net(lambda _, x: torch.cat([part * 2 for part in cut(x)], 1)).eval()
    graph = trace(model, torch.randn(2, 4, 6, 5))
    x = torch.randn(1, 2, 2, 4)
    torch.testing.assert_close(graph(x), model(x), rtol=0, atol=0)
    with pytest.raises(repq_fx.errors.SizeError, match=r"> 1\) is True"):
        graph(torch.randn(2, 1, 1, 5))


def test_a_comparison_of_channels_adds_no_node_to_a_block():
    x = torch.randn(2, 4, 8, 8)
    plain, asking = (
        trace(nn.Sequential(*(kind(4, 3) for _ in range(3))).eval(), x)
        for kind in (RepMixer, TextRepMixer)
    )
    assert len(plain.graph.nodes) == len(asking.graph.nodes)


def test_a_quantized_model_still_refuses_other_channels():
    model = Net(CERTAIN["of_an_input"]).eval()
    quantized = repq_fx.quantize(model, [torch.randn(2, 4, 6, 5)], progress=False)
    with pytest.raises((ValueError, RuntimeError), match="channels"):
        quantized(torch.randn(2, 3, 6, 5))
