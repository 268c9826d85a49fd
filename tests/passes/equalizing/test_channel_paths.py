import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.passes.unbalanced_networks import (
    chain,
    conv,
    equalize_exactly,
    image,
    paths_of,
    unbalanced,
)

CHAINS = {
    "plain": (chain(conv(3, 8, 3), nn.ReLU(), conv(8, 5, 3)), [("a", "c")]),
    "inplace": (chain(conv(3, 8, 3), nn.ReLU(inplace=True), conv(8, 5, 3)), [("a", "c")]),
    "no-activation": (chain(conv(3, 8), conv(8, 5)), [("a", "b")]),
    "no-bias": (chain(conv(3, 8, bias=False), nn.ReLU(), conv(8, 5)), [("a", "c")]),
    "leaky": (chain(conv(3, 8), nn.LeakyReLU(0.1), conv(8, 5, 3)), [("a", "c")]),
    "prelu": (chain(conv(3, 8), nn.PReLU(8, 0.3), conv(8, 5, 3)), [("a", "c")]),
    "separable": (
        chain(conv(3, 8), nn.ReLU(), conv(8, 8, 3, groups=8), nn.ReLU(), conv(8, 6)),
        [("a", "c"), ("c", "e")],
    ),
    "depth-multiplier": (
        chain(conv(3, 4), nn.ReLU(), conv(4, 8, 3, groups=4), nn.ReLU(), conv(8, 6)),
        [("a", "c"), ("c", "e")],
    ),
    "grouped": (
        chain(conv(3, 12), nn.ReLU(), conv(12, 8, 3, groups=4), nn.ReLU(), conv(8, 6, groups=2)),
        [("a", "c"), ("c", "e")],
    ),
    "pools-and-pads": (
        chain(conv(3, 8), nn.MaxPool2d(2), nn.ZeroPad2d(1), nn.MaxPool2d(2), conv(8, 5)),
        [("a", "e")],
    ),
    "linear-head": (
        chain(conv(3, 8), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
        [("a", "e")],
    ),
    "linear-chain": (
        chain(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 2)),
        [("c", "e")],
    ),
    "relu6": (chain(conv(3, 8), nn.ReLU6(), conv(8, 5)), []),
    "hardtanh": (chain(conv(3, 8), nn.Hardtanh(), conv(8, 5)), []),
    "sigmoid": (chain(conv(3, 8), nn.Sigmoid(), conv(8, 5)), []),
    "constant-pad": (chain(conv(3, 8), nn.ConstantPad2d(1, 1.0), conv(8, 5)), []),
    "spatial-flatten": (chain(conv(3, 2), nn.Flatten(), nn.Linear(128, 5)), []),
    "last-axis-linear": (chain(conv(3, 8), nn.Linear(8, 5)), []),
    "transposed": (chain(conv(3, 8), nn.ReLU(), nn.ConvTranspose2d(8, 5, 2)), []),
}


@pytest.mark.parametrize(("model", "paths"), CHAINS.values(), ids=CHAINS)
def test_a_chain_is_scaled_only_where_scales_pass(model, paths):
    model, data = unbalanced(copy.deepcopy(model)), image()
    graph, equalized = equalize_exactly(model, data)
    assert paths_of(model, data) == paths
    changed = {
        name.split(".")[0]
        for name, value in graph.state_dict().items()
        if not torch.equal(value, equalized.state_dict()[name])
    }
    assert changed == {name for path in paths for name in path}


class Net(nn.Module):
    """A function of an image and four layers."""

    def __init__(self, function):
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 8, 3), conv(8, 8, 3, groups=8)
        self.d, self.e, self.f, self.g = nn.Linear(8, 4), nn.Linear(4, 8), conv(8, 8), conv(3, 1)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def two_readers(net, x):
    y = F.relu(net.a(x))
    return net.b(y), net.c(F.max_pool2d(y, 3, 1, 1))


def in_place_on_the_side(net, x):
    y = net.a(x)
    F.relu(y, inplace=True)
    return net.b(y)


def residual(net, x):
    y = F.relu(net.a(x))
    return net.b(y) + y


def returned(net, x):
    y = net.a(x)
    net.b(y)
    return y


def view_head(net, x):
    y = F.adaptive_max_pool2d(net.a(x), 1)
    return net.d(y.view(y.size(0), -1))


def shape_head(net, x):
    y = F.adaptive_max_pool2d(net.a(x), 1)
    return net.d(y.reshape(y.shape[0], -1))


def squeeze_and_excite(net, x):
    y = F.silu(net.a(x))
    gate = torch.sigmoid(net.e(F.relu(net.d(y.mean((2, 3))))))
    return net.b(y * gate[:, :, None, None])


def pooled_gate(net, x):
    y = F.hardswish(net.a(x))
    return net.b(torch.sigmoid(net.f(F.adaptive_avg_pool2d(y, 1))) * y)


def written_over_the_gate(net, x):
    y, gate = net.a(x), torch.sigmoid(net.c(x.repeat(1, 3, 1, 1)[:, :8]))
    gate.mul_(y)
    return net.b(gate) + gate


def gated_by_itself(net, x):
    y = net.a(x)
    return net.b(y * F.relu(y))


def product_of_two_layers(net, x):
    y = net.a(x)
    return net.b(F.relu(net.c(y)) * net.f(y))


def of_one_channel(net, x):
    return net.b(net.g(x) * net.a(x))


def mean_over_channels(net, x):
    y = net.a(x)
    return net.b(y) + y.mean((1, 2), keepdim=True)


def activation_on_the_side(net, x):
    y = net.a(x)
    F.silu(y, inplace=True)
    return net.b(y)


def activation_read_twice(net, x):
    y = net.a(x)
    return net.b(F.silu(y)) + y


GRAPHS = {
    "squeeze-and-excite": (squeeze_and_excite, [("a", "b", "d"), ("d", "e")]),
    "pooled-gate": (pooled_gate, [("a", "b", "f")]),
    "written-over-the-gate": (written_over_the_gate, []),
    "gated-by-itself": (gated_by_itself, []),
    "product-of-two-layers": (product_of_two_layers, [("a", "c", "f"), ("c", "b")]),
    "of-one-channel": (of_one_channel, [("a", "b")]),
    "mean-over-channels": (mean_over_channels, []),
    "activation-on-the-side": (activation_on_the_side, [("a", "b")]),
    "activation-read-twice": (activation_read_twice, []),
    "two-readers": (lambda net, x: sum(two_readers(net, x)), [("a", "b", "c")]),
    "in-place-on-the-side": (in_place_on_the_side, [("a", "b")]),
    "residual": (residual, []),
    "concatenation": (lambda net, x: torch.cat([net.b(net.a(x)), x], 1), [("a", "b")]),
    "returned": (returned, []),
    "multiplied": (lambda net, x: net.b(net.a(x) * 2), []),
    "shared": (lambda net, x: net.b(F.relu(net.b(F.relu(net.a(x))))), []),
    "weight-read": (lambda net, x: net.b(net.a(x)) + net.a.weight.sum(), []),
    "weight-reused": (lambda net, x: net.b(F.conv2d(net.a(x), net.b.weight, padding=1)), []),
    "mean-head": (lambda net, x: net.d(F.relu(net.a(x)).mean((2, 3))), []),
    "channel-mean": (lambda net, x: net.b(net.a(x).mean(1, keepdim=True).expand(-1, 8, 8, 8)), []),
    "view-head": (view_head, [("a", "d")]),
    "shape-head": (shape_head, [("a", "d")]),
    "functional-pad": (lambda net, x: net.b(F.pad(net.a(x), (1, 1, 1, 1))), [("a", "b")]),
    "pad-of-ones": (lambda net, x: net.b(F.pad(net.a(x), (1, 1, 1, 1), value=1.0)), []),
    "functional-relu6": (lambda net, x: net.b(F.relu6(net.a(x))), []),
    "interpolated": (
        lambda net, x: net.b(F.interpolate(net.a(x), scale_factor=2, mode="bilinear")),
        [("a", "b")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("function", "paths"), GRAPHS.values(), ids=GRAPHS)
def test_all_readers_of_a_layer_decide(function, paths):
    model, data = unbalanced(Net(function)), image()
    equalize_exactly(model, data)
    assert paths_of(model, data) == paths
