"""The walk that quantizes each tensor given all that came before it."""

import re

import pytest
import torch
from torch import nn
from torch.ao.quantization.quantize_fx import prepare_fx

import repq_fx
from repq_fx import api
from repq_fx.lowering.grids import QUANTIZE


def sqnr_db(model, data, scheme):
    quantized = repq_fx.quantize(model, data, scheme=scheme, backend="reference", progress=False)
    with torch.no_grad():
        exact = model(data)
        error = exact - quantized(data)
    return 10 * torch.log10(exact.square().mean() / error.square().mean()).item()


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_rounding_for_the_outputs_is_better(small_net, images, bits):
    options = {"weight_bits": bits, "activation_bits": 8, "refit": False}
    compensated = sqnr_db(small_net, images, repq_fx.Scheme(**options))
    nearest = sqnr_db(small_net, images, repq_fx.Scheme(**options, gptq=False))
    assert compensated > nearest


def test_ranges_follow_the_quantized_stream():
    """Clipping in one layer leaves the next a smaller range than the float network shows."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Conv2d(1, 1, 1), nn.ReLU(),
                          nn.Conv2d(1, 1, 1)).eval()  # fmt: skip
    for layer in (model[0], model[2], model[4]):
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
    data = torch.rand(8, 1, 16, 16)
    data[0, 0, 0, 0] = 1000
    clipping = repq_fx.Override(
        re.compile("[01]$"), repq_fx.Scheme(activation=repq_fx.Percentile(99.0))
    )
    scales = {}
    for sequential in (False, True):
        scheme = repq_fx.Scheme(
            activation=repq_fx.MinMax(), sequential_ranges=sequential, output_search=False,
            equalization=False,
            bias_correction=False,
        ).with_overrides(clipping)  # fmt: skip
        prepared = api.prepare(model, data, scheme)
        repq_fx.calibrate(prepared, data, progress=False)
        quantized = repq_fx.convert(prepared, backend="reference")
        scales[sequential] = [n.args[1] for n in quantized.graph.nodes if n.target is QUANTIZE]
    first, second = scales[True][1:3]
    assert scales[False][2] == pytest.approx(1000 / 255, rel=0.02)
    assert second < 2 * first < 0.02


def test_the_prepared_model_is_not_changed(small_net, images):
    prepared = api.prepare(small_net, images, repq_fx.Scheme(4, 4))
    repq_fx.calibrate(prepared, images, progress=False)
    before = {name: value.clone() for name, value in prepared.state_dict().items()}
    first = repq_fx.convert(prepared, backend="reference")
    second = repq_fx.convert(prepared, backend="reference")
    assert all(torch.equal(value, before[name]) for name, value in prepared.state_dict().items())
    assert torch.equal(first(images), second(images))


class Awkward(nn.Module):
    """In-place steps, a layer called twice, chunks, a concatenation and an operation on slices."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.twice = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, image):
        left, right = self.stem(image.mul_(0.5)).relu_().chunk(2, 1)
        both = torch.cat([self.twice(left), self.twice(right).add_(left)], 1)
        return self.head(both[:, :, 1:-1, 1:-1])


def test_awkward_graphs_keep_their_float_values():
    torch.manual_seed(0)
    model, images = Awkward().eval(), torch.randn(8, 3, 12, 12)
    copy = images.clone()
    quantized = repq_fx.quantize(model, images, backend="reference", progress=False)
    assert torch.equal(images, copy)
    with torch.no_grad():
        exact, actual = model(copy.clone()), quantized(copy.clone())
    assert (exact - actual).square().mean() < 1e-3 * exact.square().mean()


def output_shift(layer, data, *, correct):
    scheme = repq_fx.Scheme(weight_bits=3, gptq=False, bias_correction=correct)
    prepared = api.prepare(layer, data, scheme)
    repq_fx.calibrate(prepared, data, progress=False)
    quantized = repq_fx.convert(prepared, backend="reference")
    dims = [d for d in range(data.dim()) if d != 1]
    with torch.no_grad():
        return (quantized(data) - layer(data)).mean(dims).abs().max().item()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(8, 12, 3), (32, 8, 9, 9)),
        (nn.Conv2d(8, 8, 3, groups=8, bias=False), (32, 8, 9, 9)),
        (nn.Conv2d(8, 12, 1, groups=2), (32, 8, 9, 9)),
        (nn.Linear(8, 12), (32, 8)),
    ],
    ids=["conv", "depthwise", "grouped", "linear"],
)
def test_the_mean_output_is_that_of_the_float_layer(layer, shape):
    torch.manual_seed(0)
    model = nn.Sequential(layer).eval()
    data = torch.rand(shape)
    uncorrected = output_shift(model, data, correct=False)
    assert uncorrected > 1e-3
    assert output_shift(model, data, correct=True) < 1e-3 * uncorrected


def test_layers_are_corrected_on_the_quantized_stream(small_net, images):
    outputs = {}
    for correct in (False, True):
        scheme = repq_fx.Scheme(weight_bits=4, activation_bits=4, bias_correction=correct)
        prepared = api.prepare(small_net, images, scheme)
        repq_fx.calibrate(prepared, images, progress=False)
        quantized = repq_fx.convert(prepared, backend="reference")
        with torch.no_grad():
            outputs[correct] = (quantized(images) - small_net(images)).mean(0).abs().max().item()
    assert outputs[True] < 1e-5 < outputs[False]


def test_a_loop_of_the_users_own_leaves_biases_alone(small_net, images):
    prepared = api.prepare(small_net, images, repq_fx.Scheme())
    with torch.no_grad():
        prepared(images)
    quantized = repq_fx.convert(prepared, backend="reference")
    assert torch.equal(quantized.get_submodule("stem").bias, small_net.stem.bias)


def test_vanilla_corrects_nothing():
    assert not repq_fx.Scheme.vanilla().bias_correction


class Ignored(nn.Module):
    """Activations in place whose results nobody takes, and a layer called by keyword."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, image):
        x = self.first(input=image)
        x.relu_()
        x = self.second(x)
        self.relu(x)
        return self.head(x)


@pytest.mark.parametrize("backend", ["reference", "int8"])
@pytest.mark.parametrize("by_hand", [True, False])
def test_results_in_place_that_nobody_takes_stay(by_hand, backend, images):
    model = Ignored().eval()
    if by_hand:
        prepared = api.prepare(model, images, repq_fx.Scheme())
        repq_fx.calibrate(prepared, images, progress=False)
        quantized = repq_fx.convert(prepared, backend)
    else:
        quantized = repq_fx.quantize(model, images, backend=backend, progress=False)
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(model(images), quantized(images)) > 30


class OverwrittenView(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, image):
        x = self.first(image)
        x[:, :4].relu_()
        return self.head(x)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
def test_an_overwritten_view_is_refused_and_not_dropped(images):
    mapping, backend = repq_fx.get_qconfig_mapping(repq_fx.Scheme()), repq_fx.get_backend_config()
    model = OverwrittenView().eval()
    prepared = prepare_fx(model, mapping, (images,), backend_config=backend)
    repq_fx.calibrate(prepared, images, progress=False)
    with pytest.raises(repq_fx.ConversionError, match="'relu_' overwrites a view"):
        repq_fx.convert(prepared)


class DoubledConv(nn.Conv2d):
    def forward(self, input):
        return 2 * super().forward(input)


def test_a_subclass_of_a_layer_is_left_as_it_is(images):
    model = nn.Sequential(DoubledConv(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    quantized = repq_fx.quantize(
        model, images, scheme=repq_fx.Scheme(3, 8, equalization=False), leaves=(DoubledConv,),
        backend="reference", progress=False,
    )  # fmt: skip
    kept = quantized.get_submodule("0")
    assert torch.equal(kept.weight, model[0].weight)
    assert torch.equal(kept.bias, model[0].bias)


def test_leaves_stay_in_float(images):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    quantized = repq_fx.quantize(model, images, leaves=("0",), progress=False)
    assert type(quantized.get_submodule("0")) is nn.Conv2d


def test_tied_weights_are_quantized_each_from_the_float_weight(images):
    torch.manual_seed(0)
    scheme = repq_fx.Scheme(3, 8)
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3)).eval()
    model[2].weight = model[0].weight
    untied = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3)).eval()
    untied.load_state_dict(model.state_dict())
    scheme = repq_fx.Scheme(3, 8, equalization=False)
    assert sqnr_db(model, images, scheme) == pytest.approx(sqnr_db(untied, images, scheme))


@pytest.mark.parametrize("count", [1, 2])
def test_one_image_is_enough(count):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                          nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval()  # fmt: skip
    images = torch.randn(count, 3, 8, 8)
    assert sqnr_db(model, images, repq_fx.Scheme()) > 15


@pytest.mark.parametrize("factor", [1e30, 1e-30])
def test_channels_of_any_magnitude_side_by_side(factor):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    images = torch.randn(16, 3, 8, 8)
    images[:, 0] *= factor
    quantized = repq_fx.quantize(model, images, backend="reference", progress=False)
    assert torch.isfinite(quantized(images)).all()
