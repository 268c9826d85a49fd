"""Sensitivity of layers, and the search for those that have to stay in float."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import CalibrationError, ConversionError, Override, RepqError, Scheme, analysis, api

PLAIN = Scheme.plain(8, 4, repq_fx.PerChannel(), repq_fx.MinMax())


class Net(nn.Module):
    """Operations in place behind two layers, one of which reads a few huge values."""

    def __init__(self):
        super().__init__()
        self.outlier = nn.Conv2d(3, 8, 3, padding=1)
        self.calm = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 4, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, image):
        first = self.act(self.outlier(image))
        second = self.calm(first)
        second += first.tanh()
        second[:, :2] = second[:, :2] * 2
        return {"maps": self.head(self.act(second)), "mean": second.mean((2, 3))}


@pytest.fixture
def images():
    data = torch.rand(16, 3, 12, 12)
    data[:, :, 0, 0] = 30.0  # Of a range that is wide for them, all others get few levels.
    return data


def prepared_for(model, images, scheme):
    prepared = api.prepare(repq_fx.reparameterize(model, images), images, scheme)
    repq_fx.calibrate(prepared, images, progress=False)
    return prepared


def test_each_layer_alone(images):
    model = Net().eval()
    with torch.no_grad():
        expected = model(images)
    found = analysis.layer_sensitivities(prepared_for(model, images, PLAIN), images)
    assert set(found) == {"outlier", "calm", "head"}
    layers_only = replace(PLAIN, float_elementwise=True)  # Nothing else is rounded for them.
    for name, noise in found.items():
        others = [Override(other, None) for other in found if other != name]
        alone = repq_fx.convert(
            prepared_for(model, images, layers_only.with_overrides(*others)), "reference"
        )
        with torch.no_grad():
            outputs = alone(images)
        errors = [
            float((outputs[key] - value).square().sum() / value.square().sum())
            for key, value in expected.items()
        ]
        assert noise == pytest.approx(sum(errors) / len(errors), rel=0.05)


def test_the_prepared_model_is_not_changed(images):
    prepared = prepared_for(Net().eval(), images, PLAIN)
    before = [value.clone() for value in prepared.state_dict().values()]
    analysis.layer_sensitivities(prepared, images)
    after = prepared.state_dict().values()
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_refusals(images):
    model = Net().eval()
    with pytest.raises(ConversionError, match="expected a model prepared by prepare_fx"):
        analysis.layer_sensitivities(repq_fx.reparameterize(model, images), images)
    uncalibrated = api.prepare(repq_fx.reparameterize(model, images), images, PLAIN)
    with pytest.raises(CalibrationError, match="has seen no data"):
        analysis.layer_sensitivities(uncalibrated, images)


class Trials:
    """A network whose loss is the noise of the layers that are quantized."""

    def __init__(self, noise):
        self.noise, self.sizes = noise, []

    def __call__(self, layers):
        self.sizes.append(len(layers))
        return sum(value for name, value in self.noise.items() if name not in layers)


@pytest.mark.parametrize("budget", [0.0, 0.5, 3.0, 20.0, 40.0, 1e3])
def test_no_smaller_number_of_layers_would_do(budget):
    noise = {f"layer{i}": 30.0 / (1 + i % 37) for i in range(100)}
    trials = Trials(noise)
    chosen = analysis.fewest_float_layers(lambda: noise, trials, budget)
    ranking = sorted(noise, key=lambda name: -noise[name])
    assert chosen == ranking[: len(chosen)]
    assert trials(chosen) <= budget
    assert not chosen or trials(ranking[: len(chosen) - 1]) > budget
    assert len(trials.sizes) <= 16


def test_nothing_is_measured_where_all_layers_can_be_quantized():
    def unexpected():
        raise AssertionError

    assert analysis.fewest_float_layers(unexpected, lambda _: 0.3, 0.5) == []


def test_a_budget_that_cannot_be_kept():
    noise = {"a": 1.0, "b": 2.0}
    with pytest.raises(RepqError, match=r"even with all 2 layers in float, more is lost than 0\.5"):
        analysis.fewest_float_layers(lambda: noise, lambda _: 1.0, 0.5)
