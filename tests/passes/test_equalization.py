import copy
from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from repq_fx.errors import CalibrationError, TraceError
from repq_fx.passes import equalize, trace
from repq_fx.passes.channel_paths import find_channel_paths
from repq_fx.passes.layer_statistics import input_magnitude, measure_layers


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


def equalize_exactly(model, data, **options):
    """Equalize, check the function on other data and that the given graph stays."""
    graph = trace(model, data)
    before = copy.deepcopy(graph.state_dict())
    equalized = equalize(graph, data, **options)
    after = graph.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    other = torch.randn_like(data)
    with torch.no_grad():
        expected = graph(other)
        error = (equalized(other) - expected).abs().max() / expected.abs().max()
    assert error < 1e-12
    return graph, equalized


def paths_of(model, data):
    measured = measure_layers(trace(model, data), data, input_magnitude)
    found = find_channel_paths(measured.graph_module, measured.shapes)
    return [(path.producer, *sorted(path.consumers)) for path in found]


def spread(graph, data, layer):
    magnitude = measure_layers(graph, data, input_magnitude).layers[layer]
    return float(magnitude.max() / magnitude[magnitude > 0].min())


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
    "silu": (chain(conv(3, 8), nn.SiLU(), conv(8, 5)), []),
    "gelu": (chain(conv(3, 8), nn.GELU(), conv(8, 5)), []),
    "hardswish": (chain(conv(3, 8), nn.Hardswish(), conv(8, 5)), []),
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
        self.d = nn.Linear(8, 4)
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


GRAPHS = {
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


def test_layers_that_share_a_parameter_stay():
    model = unbalanced(chain(conv(3, 8), nn.ReLU(), conv(8, 8, bias=False), nn.ReLU(), conv(8, 8)))
    model.c.weight = model.e.weight
    graph, equalized = equalize_exactly(model, image())
    assert all(map(torch.equal, graph.parameters(), equalized.parameters()))


def test_layers_with_hooks_stay():
    model = unbalanced(chain(conv(3, 8), nn.ReLU(), conv(8, 8)))
    graph = trace(model, image())
    graph.c.register_forward_pre_hook(lambda _, args: (args[0] + 1,))
    assert all(map(torch.equal, graph.parameters(), equalize(graph, image()).parameters()))


def test_depthwise_readers_take_up_the_whole_range():
    model, data = unbalanced(chain(conv(3, 8), nn.ReLU(), conv(8, 8, 3, groups=8))), image()
    graph, equalized = equalize_exactly(model, data)
    assert spread(graph, data, "c") > 10
    assert spread(equalized, data, "c") == pytest.approx(1)


@pytest.mark.parametrize("migration", [0.0, 0.3, 0.5, 1.0])
def test_migration_follows_its_formula(migration):
    model, data = unbalanced(chain(conv(3, 8), nn.ReLU(), conv(8, 6, 3))), image()
    graph, equalized = equalize_exactly(model, data, migration=migration)
    ranges = measure_layers(graph, data, input_magnitude).layers["c"]
    weights = graph.c.weight.detach().abs().amax((0, 2, 3))
    expected = ranges**migration / weights ** (1 - migration)
    factors = (graph.a.weight / equalized.a.weight).detach().mean((1, 2, 3))
    torch.testing.assert_close(factors / factors[0], expected / expected[0])
    assert float(factors.log().mean()) == pytest.approx(0, abs=1e-9)


def test_full_migration_evens_out_a_dense_reader():
    model, data = unbalanced(chain(conv(3, 8), nn.ReLU(), conv(8, 6, 3))), image()
    graph, equalized = equalize_exactly(model, data, migration=1.0)
    assert spread(graph, data, "c") > 10
    assert spread(equalized, data, "c") == pytest.approx(1)


@pytest.mark.parametrize("depthwise", [False, True], ids=["dense", "depthwise"])
def test_dead_channels_do_no_harm(depthwise):
    groups = 8 if depthwise else 1
    model = unbalanced(chain(conv(3, 8), nn.ReLU(), conv(8, 8, 3, groups=groups)))
    with torch.no_grad():
        model.a.weight[0], model.a.bias[0] = 1e-24, 0  # as in MobileOne-S0
        model.a.weight[1], model.a.bias[1] = 0, -1  # never passes the ReLU
        columns = model.c.weight if depthwise else model.c.weight.transpose(0, 1)
        columns[2] = 1e-24
        columns[3] = 0
    graph, equalized = equalize_exactly(model, image())
    assert torch.equal(graph.a.weight[:2], equalized.a.weight[:2])
    ratio = (graph.a.weight / equalized.a.weight).nan_to_num(nan=1)
    assert 1e-5 < ratio.min() < ratio.max() < 1e5


@pytest.mark.parametrize("dead", ["a", "c"])
def test_a_layer_of_zeros_stays(dead):
    model = unbalanced(chain(conv(3, 8), nn.ReLU(), conv(8, 8)))
    nn.init.zeros_(model.get_submodule(dead).weight)
    nn.init.zeros_(model.get_submodule(dead).bias)
    graph = trace(model, image())
    assert all(map(torch.equal, graph.parameters(), equalize(graph, image()).parameters()))


@given(
    groups=st.sampled_from([1, 2, 3]),
    per_group=st.integers(1, 4),
    outputs_per_group=st.integers(1, 3),
    kernel_size=st.sampled_from([1, 3]),
    migration=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_any_groups_compute_the_same(
    groups, per_group, outputs_per_group, kernel_size, migration, seed
):
    width, outputs = groups * per_group, groups * outputs_per_group
    model = chain(
        conv(3, width), nn.ReLU(), conv(width, outputs, kernel_size, groups=groups), nn.ReLU(),
        conv(outputs, outputs, 3, groups=outputs), nn.LeakyReLU(0.2), nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
    )  # fmt: skip
    model.append(nn.Linear(outputs, 4))
    model, data = unbalanced(model, seed), image(size=5, batch=2)
    equalize_exactly(model, data, migration=migration)
    assert len(paths_of(model, data)) == 3


def test_single_precision_agrees():
    model, data = unbalanced(CHAINS["grouped"][0]).float(), image().float()
    graph = trace(model, data)
    equalized = equalize(graph, (data,))
    assert {p.dtype for p in equalized.parameters()} == {torch.float32}
    with torch.no_grad():
        expected, found = graph(data), equalized(data)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_absorption_is_an_option():
    model, data = unbalanced(chain(conv(3, 8), nn.ReLU(), conv(8, 5))), image()
    nn.init.constant_(model.a.bias, 1e4)
    graph = trace(model, data)
    kept, absorbed = (equalize(graph, data, absorb_bias=flag) for flag in (False, True))
    assert absorbed.a.bias.abs().max() < kept.a.bias.abs().max()
    with torch.no_grad():
        torch.testing.assert_close(absorbed(data), graph(data))


@pytest.mark.parametrize("migration", [-0.1, 1.5, float("nan")])
def test_migration_outside_the_unit_interval_is_refused(migration):
    with pytest.raises(ValueError, match=rf"\[0, 1\], got {migration}"):
        equalize(trace(chain(conv(3, 8)).eval(), torch.ones(1, 3, 4, 4)), (), migration=migration)


def test_data_that_is_not_finite_is_refused():
    model, data = unbalanced(chain(conv(3, 8), nn.ReLU(), conv(8, 5))), image()
    graph = trace(model, data)
    data[0, 0, 0, 0] = float("nan")
    with pytest.raises(CalibrationError, match="data holds NaN"):
        equalize(graph, data)
    with pytest.raises(CalibrationError, match="'a' reads or returns"):
        equalize(graph, torch.full_like(data, 1e308))


def test_other_models_are_refused():
    with pytest.raises(TypeError, match="a Sequential; give the GraphModule"):
        equalize(chain(conv(3, 8)).eval(), image())
    graph = trace(chain(conv(3, 8)).double().eval(), image())
    with pytest.raises(TraceError, match="training mode"):
        equalize(graph.train(), image())
    with pytest.raises(ValueError, match="empty"):
        equalize(graph.eval(), ())
