import copy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from repq_fx.errors import CalibrationError, TraceError
from repq_fx.passes import equalize, trace
from repq_fx.passes.equalizing.layer_statistics import InputStatistics, measure_layers
from repq_fx.passes.gathering.elementwise_function import ScaledActivation
from tests.passes.unbalanced_networks import (
    chain,
    conv,
    equalize_everywhere,
    equalize_exactly,
    graph_of,
    image,
    magnitude_of,
    paths_of,
    spread,
    unbalanced,
)


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def scaled_layers(graph):
    return [layer for layer in graph.modules() if isinstance(layer, ScaledActivation)]


BENDING = {
    "silu": nn.SiLU(),
    "silu-in-place": nn.SiLU(inplace=True),
    "gelu": nn.GELU(),
    "gelu-tanh": nn.GELU("tanh"),
    "hardswish": nn.Hardswish(),
    "scaled": ScaledActivation(nn.Hardswish(), 0.7, -0.4),
    "scaled-twice": ScaledActivation(nn.SiLU(), torch.rand(8, 1, 1) + 0.5, torch.rand(8, 1, 1)),
    "function": Call(F.silu),
    "function-in-place": Call(lambda x: F.hardswish(x, inplace=True)),
    "function-with-setting": Call(lambda x: F.gelu(x, approximate="tanh")),
}  # fmt: skip


@pytest.mark.parametrize("activation", BENDING.values(), ids=BENDING)
@pytest.mark.parametrize("reader", [conv(8, 8, 3, groups=8), conv(8, 5)], ids=["depthwise", "1x1"])
def test_what_bends_is_scaled_behind(activation, reader):
    model = unbalanced(chain(conv(3, 8), copy.deepcopy(activation), copy.deepcopy(reader)))
    graph, equalized = equalize_exactly(graph_of(model, image()), image())
    assert paths_of(graph, image()) == [("a", "c")]
    assert torch.equal(graph.a.weight, equalized.a.weight)
    assert [layer.factor.shape for layer in scaled_layers(equalized)] == [(8, 1, 1)]
    if reader.groups == 8:
        assert spread(equalized, image(), "c") < spread(graph, image(), "c") / 3


def test_linear_layers_are_scaled_on_the_last_axis():
    model = unbalanced(chain(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 5)))
    _, equalized = equalize_exactly(model, torch.randn(4, 6, 3, dtype=torch.float64))
    assert [m.factor.shape for m in equalized.modules() if isinstance(m, ScaledActivation)] == [
        (8,)
    ]


def test_one_activation_function_of_many_layers():
    model = unbalanced(chain(conv(3, 8), nn.SiLU(), conv(8, 6)))
    model.extend([model[1], conv(6, 5).double().eval()])
    _, equalized = equalize_exactly(model, image())
    assert [layer.factor.numel() for layer in scaled_layers(equalized)] == [8, 6]


def test_activation_functions_that_stay():
    model = unbalanced(chain(conv(3, 8), nn.SiLU(), conv(8, 5)))
    graph = trace(model, image())
    assert scaled_layers(equalize_everywhere(graph, image()))
    for same in (
        equalize_everywhere(graph, image(), kept=["b"]),
        equalize_everywhere(graph, image(), only_depthwise=True),
        equalize(graph, image()),
    ):
        assert not scaled_layers(same)
        assert all(map(torch.equal, graph.parameters(), same.parameters()))


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


def test_one_grid_suits_channels_on_both_sides_of_zero():
    """Each channel fills the common grid on the side that is wider for it."""
    model, data = unbalanced(chain(conv(3, 8), nn.SiLU(), conv(8, 8, 3, groups=8))), image()
    with torch.no_grad():
        model.a.weight[:4] /= model.a.weight[:4].abs().amax((1, 2, 3), keepdim=True) * 20
        model.a.bias[:4] = -1.3  # Hardly anything but the dip of a SiLU below zero.
    _, equalized = equalize_exactly(graph_of(model, data), data)
    channels = measure_layers(equalized, data, InputStatistics.of).layers["c"]
    lowest, highest = channels.lowest, channels.highest
    is_alive = (highest - lowest) > 1e-6 * (highest - lowest).max()
    fills = torch.maximum(lowest / lowest.min(), highest / highest.max())[is_alive]
    assert is_alive.all()
    torch.testing.assert_close(fills, torch.ones_like(fills))


@pytest.mark.parametrize("migration", [0.0, 0.3, 0.5, 1.0])
def test_migration_follows_its_formula(migration):
    model, data = unbalanced(chain(conv(3, 8), nn.ReLU(), conv(8, 6, 3))), image()
    graph, equalized = equalize_exactly(model, data, partial(equalize, migration=migration))
    ranges = magnitude_of(graph, data, "c")
    weights = graph.c.weight.detach().abs().amax((0, 2, 3))
    expected = ranges**migration / weights ** (1 - migration)
    factors = (graph.a.weight / equalized.a.weight).detach().mean((1, 2, 3))
    torch.testing.assert_close(factors / factors[0], expected / expected[0])
    assert float(factors.log().mean()) == pytest.approx(0, abs=1e-9)


def test_full_migration_evens_out_a_dense_reader():
    model, data = unbalanced(chain(conv(3, 8), nn.ReLU(), conv(8, 6, 3))), image()
    graph, equalized = equalize_exactly(model, data, partial(equalize, migration=1.0))
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
    equalize_exactly(model, data, partial(equalize, migration=migration))
    assert len(paths_of(model, data)) == 3


STEPS = {
    "dense": lambda layers, a, _: layers[0](a),
    "depthwise": lambda layers, a, _: layers[1](a),
    "relu": lambda _, a, __: F.relu(a),
    "silu": lambda _, a, __: F.silu(a),
    "silu-in-place": lambda _, a, __: F.silu(a.clone(), inplace=True),
    "pool": lambda _, a, __: F.max_pool2d(a, 3, 1, 1),
    "product": lambda _, a, b: a * b,
    "product-in-place": lambda _, a, b: a.clone().mul_(b),
    "product-of-layers": lambda layers, a, b: F.silu(layers[0](a)) * layers[1](b),
    "sum": lambda _, a, b: a + b,
    "gate": lambda _, a, b: a * torch.sigmoid(b.mean((2, 3), keepdim=True)),
    "learned-scale": lambda layers, a, _: a * layers[0].bias[:, None, None],
}  # fmt: skip


class Steps(nn.Module):
    """Each step makes one more image of two of those that are there."""

    def __init__(self, steps):
        super().__init__()
        pairs = ([conv(4, 4), conv(4, 4, 3, groups=4)] for _ in range(len(steps) + 1))
        self.layers = nn.ModuleList(map(nn.ModuleList, pairs))
        self.steps = steps

    def forward(self, image):
        images = [self.layers[-1][0](image)]
        for (step, first, second), layers in zip(self.steps, self.layers, strict=False):
            a, b = (images[-1 - index % len(images)] for index in (first, second))
            images.append(STEPS[step](layers, a, b))
        return self.layers[-1][1](images[-1])


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(list(STEPS)), st.integers(0, 1), st.integers(0, 3)),
        min_size=1, max_size=8,
    ),
)  # fmt: skip
def test_any_steps_compute_the_same(steps):
    torch.manual_seed(0)
    data = image(channels=4, size=4, batch=2)
    equalize_exactly(graph_of(Steps(steps).double().eval(), data), data)


def test_single_precision_agrees():
    grouped = chain(conv(3, 12), nn.ReLU(), conv(12, 8, 3, groups=4), nn.SiLU(), conv(8, 6))
    model, data = unbalanced(grouped).float(), image().float()
    graph = trace(model, data)
    equalized = equalize(graph, (data,))
    assert {value.dtype for value in equalized.state_dict().values()} == {torch.float32}
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
