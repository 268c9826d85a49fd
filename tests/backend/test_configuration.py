"""The route the project promises: torch's own prepare_fx and convert_fx with our two tables."""

import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

import repq_fx
from repq_fx.backend.reference import ReferenceConv2d, ReferenceLinear
from repq_fx.quant import ActivationObserver

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated"),
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions"),
]


def prepared_by_torch(model, images, scheme):
    mapping, backend = repq_fx.get_qconfig_mapping(scheme), repq_fx.get_backend_config()
    prepared = prepare_fx(model, mapping, (images,), backend_config=backend)
    repq_fx.calibrate(prepared, images, progress=False)
    return prepared


def layers_of(model, kind):
    return {name for name, module in model.named_modules() if isinstance(module, kind)}


def test_stock_functions_give_our_layers_and_our_result(small_net, images):
    scheme = repq_fx.Scheme(activation=repq_fx.MinMax())
    prepared = prepared_by_torch(small_net, images, scheme)
    ours = repq_fx.convert(prepared, backend="reference")
    stock = convert_fx(prepared, backend_config=repq_fx.get_backend_config())
    assert layers_of(stock, ReferenceConv2d) == {"stem", "body", "depthwise", "point"}
    assert layers_of(stock, ReferenceLinear) == {"classifier"}
    with torch.no_grad():
        expected = small_net(images)
        assert repq_fx.analysis.sqnr_db(expected, stock(images)) > 25
        assert repq_fx.analysis.sqnr_db(expected, ours(images)) > 25


def test_stock_convert_warns_below_eight_bits_and_ours_does_not(small_net, images):
    prepared = prepared_by_torch(small_net, images, repq_fx.Scheme.w6a6())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        repq_fx.convert(prepared, backend="reference")
    with pytest.warns(repq_fx.PrecisionWarning, match="repq_fx.convert keeps it"):
        convert_fx(prepared, backend_config=repq_fx.get_backend_config())


class ConvActivation(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.activation = activation

    def forward(self, image):
        return self.activation(self.conv(image))


@pytest.mark.parametrize(
    "activation",
    [
        nn.ReLU(),
        nn.ReLU6(),
        nn.SiLU(),
        nn.Hardswish(),
        nn.GELU(),
        nn.LeakyReLU(),
        nn.Hardtanh(),
        F.relu,
        F.relu6,
        F.silu,
        F.hardswish,
        F.gelu,
        F.leaky_relu,
        torch.relu,
    ],
    ids=lambda a: getattr(a, "__name__", type(a).__name__),
)
def test_the_observer_sits_behind_the_fused_activation(activation, images):
    prepared = prepared_by_torch(ConvActivation(activation).eval(), images, repq_fx.Scheme())
    observers = [
        node for node in prepared.graph.nodes
        if node.op == "call_module"
        and isinstance(prepared.get_submodule(node.target), ActivationObserver)
    ]  # fmt: skip
    assert len(observers) == 2  # The input and the activation's output; none in between.
    assert observers[1].args[0].target in (activation, "activation")


def test_an_unmerged_batch_norm_is_folded_into_its_convolution(images, randomize_batch_norm):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    randomize_batch_norm(model)
    prepared = prepared_by_torch(model, images, repq_fx.Scheme())
    int8 = repq_fx.convert(prepared, backend="reference")
    assert layers_of(int8, nn.BatchNorm2d) == set()
    assert repq_fx.analysis.sqnr_db(model(images), int8(images)) > 25


@pytest.mark.parametrize(
    "target", ["classifier", re.compile("class.*"), nn.Linear], ids=["name", "regex", "type"]
)
def test_overrides_leave_a_layer_in_float(target, small_net, images):
    scheme = repq_fx.Scheme().with_overrides(repq_fx.Override(target, None))
    int8 = repq_fx.convert(prepared_by_torch(small_net, images, scheme), backend="reference")
    assert isinstance(int8.get_submodule("classifier"), nn.Linear)
    assert isinstance(int8.get_submodule("stem"), ReferenceConv2d)


def test_an_override_may_have_other_bits(small_net, images):
    scheme = repq_fx.Scheme().with_overrides(repq_fx.Override("body", repq_fx.Scheme.w4a8()))
    int8 = repq_fx.convert(prepared_by_torch(small_net, images, scheme), backend="reference")
    assert int8.get_submodule("body").values.abs().max() == 7
    assert int8.get_submodule("stem").values.abs().max() > 7


W4, W6 = repq_fx.Scheme(4), repq_fx.Scheme(6)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([(re.compile("[bs]"), W4), (re.compile("b"), W6)], {"stem": 4, "body": 6}),
        ([("body", W4), ("body", W6)], {"stem": 8, "body": 6}),
        ([("body", W4), (re.compile("body|stem"), W6)], {"stem": 6, "body": 4}),
        ([(re.compile("stem"), W4), (nn.Conv2d, W6)], {"stem": 4, "body": 6}),
        ([(re.compile("BODY # c", re.IGNORECASE | re.VERBOSE), None)], {"stem": 8, "body": None}),
    ],
    ids=["expressions", "names", "name-expression", "expression-type", "flags"],
)
def test_which_override_wins(overrides, expected, small_net, images):
    scheme = repq_fx.Scheme().with_overrides(*(repq_fx.Override(*pair) for pair in overrides))
    int8 = repq_fx.convert(prepared_by_torch(small_net, images, scheme), backend="reference")
    layers = {name: int8.get_submodule(name) for name in expected}
    assert {name: getattr(layer, "bits", None) for name, layer in layers.items()} == expected


def test_overrides_of_overrides_are_refused():
    with pytest.raises(ValueError, match="must not have overrides"):
        repq_fx.Override("a", repq_fx.Scheme().with_overrides(repq_fx.Override("b", None)))


def test_an_equalized_graph_is_observed_like_any_other(images):
    """Stock `prepare_fx` would take apart what only `quantize` may leave in the graph."""
    convolutions = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1)
    layers = convolutions[0], nn.SiLU(), convolutions[1], nn.ReLU(), convolutions[2]
    merged = repq_fx.reparameterize(nn.Sequential(*layers).eval(), images)
    graphs = merged, repq_fx.equalize(merged, images)
    assert not torch.equal(*(graph.get_submodule("2").weight for graph in graphs))
    plain, equalized = (prepared_by_torch(graph, images, repq_fx.Scheme()) for graph in graphs)
    assert [n.target for n in plain.graph.nodes] == [n.target for n in equalized.graph.nodes]
