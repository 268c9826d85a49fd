import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from repq_fx import quantize, reparameterize, trace
from repq_fx.passes.tracing.plain_layers import torch_layer


class Same(nn.Conv2d):
    """A convolution that keeps the size."""

    bias_factor = 2

    def __init__(self, channels):
        super().__init__(channels, channels, 3, padding=1)
        self.channels = channels

    def reset_parameters(self):
        super().reset_parameters()

    def describe(self):
        return self.channels


class Same2(Same):
    """A subclass of a subclass."""


class Norm(nn.BatchNorm2d):
    """A normalization of another epsilon."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-2)


class OwnForward(nn.Conv2d):
    """Scales."""

    def forward(self, x):
        return 2 * super().forward(x)


class OwnConvolution(nn.Conv2d):
    """Changes what torch's forward calls."""

    def _conv_forward(self, x, weight, bias):
        return 2 * super()._conv_forward(x, weight, bias)


class OwnWeight(nn.Linear):
    """Computes the weight."""

    @property
    def weight(self):
        return self._parameters["weight"] * 2


class HiddenLayers(nn.ReLU):
    """An activation with a depthwise convolution and a normalization in its forward."""

    def __init__(self, channels, *, inplace):
        super().__init__(inplace)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(self.conv(super().forward(x)))


PLAIN = {
    "itself": (nn.Conv2d, nn.Conv2d), "constructor": (Same, nn.Conv2d),
    "grandchild": (Same2, nn.Conv2d), "norm": (Norm, nn.BatchNorm2d),
    "torch": (nn.modules.linear.NonDynamicallyQuantizableLinear,) * 2,
}  # fmt: skip
OTHER = {
    "forward": OwnForward, "inner_method": OwnConvolution, "property": OwnWeight,
    "layers": HiddenLayers, "module": nn.Module,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "layer"), PLAIN.values(), ids=PLAIN.keys())
def test_subclass_that_only_sets_arguments_is_the_layer(kind, layer):
    assert torch_layer(kind) is layer


@pytest.mark.parametrize("kind", OTHER.values(), ids=OTHER.keys())
def test_subclass_that_computes_is_no_layer(kind):
    assert torch_layer(kind) is None


def test_trace_holds_plain_layers_and_the_model_keeps_its_own():
    model = nn.Sequential(Same(4), Norm(4), nn.ReLU()).eval()
    traced = trace(model, torch.randn(1, 4, 6, 6))
    assert [type(layer) for layer in traced.children()] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert [type(layer) for layer in model] == [Same, Norm, nn.ReLU]


def test_leaf_keeps_its_class():
    traced = trace(nn.Sequential(Same(4), Norm(4)).eval(), torch.randn(1, 4, 6, 6), leaves=[Same])
    assert [type(layer) for layer in traced.children()] == [Same, nn.BatchNorm2d]


def test_parametrized_subclass_still_computes_its_weight(merge_exactly, convs_of):
    model = nn.Sequential(parametrizations.weight_norm(Same(4)), Norm(4))
    assert convs_of(merge_exactly(model, torch.randn(2, 4, 6, 6))) == ["0"]


@pytest.mark.parametrize("kind", [Same, OwnConvolution], ids=["plain", "own"])
def test_subclass_merges_if_it_is_plain(kind, merge_exactly, convs_of):
    layer = Same(4) if kind is Same else OwnConvolution(4, 4, 3, padding=1)
    merged = merge_exactly(nn.Sequential(layer, Norm(4), nn.ReLU()), torch.randn(2, 4, 6, 6))
    assert len([m for m in merged.modules() if isinstance(m, nn.BatchNorm2d)]) == (kind is not Same)


@pytest.mark.parametrize("inplace", [False, True], ids=["new", "in_place"])
def test_activation_that_hides_layers_is_traced_through(inplace, merge_exactly):
    layers = nn.Conv2d(4, 4, 3, padding=1), HiddenLayers(4, inplace=inplace)
    merged = merge_exactly(nn.Sequential(*layers), torch.randn(2, 4, 8, 8))
    assert [type(layer) for layer in merged.modules() if isinstance(layer, nn.Conv2d)] == (
        [nn.Conv2d] * 2
    )


def test_subclass_is_quantized_as_the_layer():
    torch.manual_seed(0)
    model = nn.Sequential(Same(4), nn.ReLU(), HiddenLayers(4, inplace=False)).eval()
    image = torch.randn(2, 4, 8, 8)
    quantized = quantize(model, [image], progress=False, backend="reference")
    plain = quantize(reparameterize(model, image), [image], progress=False, backend="reference")
    assert not any(type(m) in (nn.Conv2d, Same) for m in quantized.modules())
    torch.testing.assert_close(quantized(image), plain(image), rtol=0, atol=0)
