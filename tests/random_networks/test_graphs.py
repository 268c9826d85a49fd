"""Random networks of everything the region finder knows: merging must never change a result."""

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch import nn
from torch.nn import functional as F

from repq_fx.passes import find_regions, reparameterize

CHANNELS = 4


class Program(nn.Module):
    """Runs steps on a list of values; each step appends one."""

    def __init__(self, steps):
        super().__init__()
        self.layers = nn.ModuleList(layer for layer, _ in steps)
        self.calls = [call for _, call in steps]

    def forward(self, x):
        values = [x]
        for layer, call in zip(self.layers, self.calls, strict=True):
            values.append(call(layer, values))
        return values[-1], values[len(values) // 2]


class Scale(nn.Module):
    """A parameter for each channel."""

    def __init__(self, generator):
        super().__init__()
        weight = torch.randn(CHANNELS, 1, 1, generator=generator, dtype=torch.float64)
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return x * self.weight


def crop_like(value, other):
    """Zeros around the smaller of two images, so that they can be added."""
    rows, columns = (value.shape[axis] - other.shape[axis] for axis in (2, 3))
    if rows or columns:
        other = F.pad(other, (0, columns, 0, rows))
    return value + other


@st.composite
def steps(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    count = draw(st.integers(2, 9))
    return [draw(step(index, generator)) for index in range(1, count + 1)]


@st.composite
def step(draw, index, generator):
    source = draw(st.integers(max(0, index - 3), index - 1))
    other = draw(st.integers(0, index - 1))
    kind = draw(st.sampled_from(sorted(KINDS)))
    return KINDS[kind](draw, generator, source, other)


def conv(draw, generator, source, _):
    taps = draw(st.sampled_from([1, 1, 3, 3, 2, 5]))
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    layer = nn.Conv2d(
        CHANNELS, CHANNELS, taps, padding=draw(st.sampled_from([taps // 2, taps // 2, 0])),
        groups=groups, bias=draw(st.booleans()),
    ).double()  # fmt: skip
    for parameter in layer.parameters():
        parameter.data.normal_(generator=generator)
    return layer, lambda layer, values: layer(values[source])


def norm(draw, generator, source, _):
    layer = nn.BatchNorm2d(CHANNELS, affine=draw(st.booleans())).double()
    layer.running_mean.normal_(generator=generator)
    layer.running_var.uniform_(0.3, 2, generator=generator)
    return layer, lambda layer, values: layer(values[source])


def scale(_draw, generator, source, _):
    return Scale(generator), lambda layer, values: layer(values[source])


def call(function):
    """A step without a layer."""
    return lambda _draw, _generator, source, other: (
        nn.Identity(),
        lambda _, values: function(values[source], values[other]),
    )


KINDS = {
    "conv": conv,
    "conv_again": conv,
    "norm": norm,
    "scale": scale,
    "add": call(crop_like),
    "add_again": call(crop_like),
    "sub": call(lambda x, y: crop_like(x, -y)),
    "twice": call(lambda x, _: x + x * 0.5),
    "shift": call(lambda x, _: x + 0.25),
    "relu": call(lambda x, _: x.relu()),
    "pool": call(lambda x, _: F.avg_pool2d(x, 3, 1, 1)),
    "pad": call(lambda x, _: F.pad(x, (1, 0, 0, 1))),
    "crop": call(lambda x, _: x[:, :, 1:, :-1]),
    "last": call(lambda x, _: x.permute(0, 2, 3, 1).mul(2).permute(0, 3, 1, 2)),
}


def layers_cost(model):
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d))


@settings(max_examples=100)
@given(steps())
def test_merged_programs_compute_the_same(program):
    model = Program(program).eval()
    image = torch.randn(2, CHANNELS, 14, 13, dtype=torch.float64)
    merged = reparameterize(model, image)
    for size in ((14, 13), (15, 16)):
        other = torch.randn(1, CHANNELS, *size, dtype=torch.float64)
        with torch.no_grad():
            for known, found in zip(model(other), merged(other), strict=True):
                scale = known.abs().max().item() or 1.0
                torch.testing.assert_close(found / scale, known / scale, rtol=0, atol=1e-9)
    assert layers_cost(merged) <= layers_cost(model)


@settings(max_examples=20)
@given(steps())
def test_finding_regions_changes_nothing(program):
    model = Program(program).eval()
    image = torch.randn(1, CHANNELS, 14, 13, dtype=torch.float64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (find_regions(model, image) for _ in range(2))
    assert first == second
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
