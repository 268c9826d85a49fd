import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from repq_fx.passes import reparameterize


class Net(nn.Module):
    """A function of an image and layers."""

    def __init__(self, function, **layers):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.gamma = nn.Parameter(torch.randn(6))
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def linear(inputs=4, outputs=6):
    return nn.Linear(inputs, outputs)


def to_nchw(x):
    return x.permute(0, 3, 1, 2)


def to_nhwc(x):
    return x.permute(0, 2, 3, 1)


def normed_rows(net, x):
    y = net.a(x)
    return net.norm(y.flatten(0, 1)).reshape_as(y)


def normed_view(net, x):
    y = net.a(x)
    return net.norm(torch.flatten(y, 0, 2)).view_as(y)


CASES = {
    "heads": (
        Net(lambda net, x: (net.a(x) + net.b(x)) / 2, a=linear(), b=linear()),
        (5, 4),
        [nn.Linear],
    ),
    "heads_of_tokens": (
        Net(lambda net, x: (net.a(x) + net.b(x)) / 2, a=linear(), b=linear()),
        (2, 3, 4),
        [nn.Linear],
    ),
    "residual_of_nhwc": (
        Net(lambda net, x: net.a(x) + x, a=linear(4, 4)),
        (2, 3, 5, 4),
        [nn.Linear],
    ),
    "chain": (nn.Sequential(linear(4, 6), linear(6, 3)), (2, 3, 4), [nn.Linear]),
    "norm_after": (nn.Sequential(linear(), nn.BatchNorm1d(6)), (5, 4), [nn.Linear]),
    "norm_before": (nn.Sequential(nn.BatchNorm1d(4), linear()), (5, 4), [nn.Linear]),
    "norm_between": (
        nn.Sequential(linear(4, 6), nn.BatchNorm1d(6), linear(6, 2)),
        (5, 4),
        [nn.Linear],
    ),
    "scale_of_channels": (Net(lambda net, x: net.a(x) * net.gamma, a=linear()), (2, 3, 4),
                          [nn.Linear]),
    "linear_to_nchw": (
        Net(
            lambda net, x: net.norm(to_nchw(net.a(x))) * net.gamma[:, None, None],
            a=linear(), norm=nn.BatchNorm2d(6),
        ),
        (2, 3, 5, 4),
        [nn.Linear, "permute"],
    ),
    "tokens_to_channels": (
        Net(lambda net, x: net.norm(net.a(x).transpose(1, 2)), a=linear(), norm=nn.BatchNorm1d(6)),
        (2, 3, 4),
        [nn.Linear, "permute"],
    ),
    "conv_to_nhwc": (
        Net(lambda net, x: to_nhwc(net.a(x)) * net.gamma, a=nn.Conv2d(4, 6, 3)),
        (2, 4, 5, 6),
        [nn.Conv2d, "permute"],
    ),
    "conv_and_linear": (
        Net(lambda net, x: net.b(to_nhwc(net.a(x))), a=nn.Conv2d(4, 6, 3), b=linear(6, 2)),
        (2, 4, 5, 6),
        [nn.Conv2d, "permute"],
    ),
    "linear_in_nchw": (
        Net(lambda net, x: to_nchw(net.a(to_nhwc(x))) * 2, a=linear()),
        (2, 4, 5, 3),
        [nn.Conv2d],
    ),
    "conv_in_nhwc": (
        Net(
            lambda net, x: to_nhwc(net.norm(net.a(to_nchw(x)))) + x,
            a=nn.Conv2d(4, 4, 3, padding=1, groups=4), norm=nn.BatchNorm2d(4),
        ),
        (2, 5, 6, 4),
        ["permute", nn.Conv2d, "permute"],
    ),
    "padded_conv_in_nhwc": (
        Net(
            lambda net, x: to_nhwc(net.norm(net.a(F.pad(to_nchw(x), (2, 0, 1, 1))))) + x,
            a=nn.Conv2d(4, 4, 3), norm=nn.BatchNorm2d(4),
        ),
        (2, 5, 6, 4),
        ["permute", F.pad, nn.Conv2d, "permute"],
    ),
    "flattened": (Net(normed_rows, a=linear(), norm=nn.BatchNorm1d(6)), (2, 3, 4), [nn.Linear]),
    "flattened_nhwc": (Net(normed_view, a=linear(), norm=nn.BatchNorm1d(6)), (2, 3, 5, 4),
                       [nn.Linear]),
    "zeros_on_two_sides": (
        nn.Sequential(nn.ZeroPad2d((0, 1, 2, 0)), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)),
        (2, 4, 5, 6),
        [F.pad, nn.Conv2d],
    ),
    "zeros_on_both_sides": (
        nn.Sequential(nn.ZeroPad2d((1, 1, 2, 2)), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)),
        (2, 4, 5, 6),
        [nn.Conv2d],
    ),
    "conv1d": (nn.Sequential(nn.Conv1d(4, 6, 3, 2, 1), nn.BatchNorm1d(6)), (2, 4, 9), [nn.Conv1d]),
    "causal_conv1d": (
        nn.Sequential(nn.ConstantPad1d((2, 0), 0.0), nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)),
        (2, 4, 9),
        [F.pad, nn.Conv1d],
    ),
    "conv3d": (
        nn.Sequential(nn.Conv3d(4, 6, 3, 1, (1, 0, 1)), nn.BatchNorm3d(6)),
        (2, 4, 3, 4, 5),
        [nn.Conv3d],
    ),
    "transposed_1d": (
        nn.Sequential(nn.ConvTranspose1d(4, 6, 4, 2, 1), nn.BatchNorm1d(6)),
        (2, 4, 5),
        [nn.ConvTranspose1d],
    ),
    "transposed_2d": (
        nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), nn.BatchNorm2d(6)),
        (2, 4, 4, 5),
        [nn.ConvTranspose2d],
    ),
    "reflected": (
        nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(6)),
        (2, 4, 4, 5),
        [nn.Conv2d],
    ),
}  # fmt: skip
"""Models, shapes of their inputs, and the calls between input and output once merged."""

CHOSEN = ("heads_of_tokens", "linear_to_nchw", "conv_to_nhwc", "flattened", "zeros_on_two_sides",
          "conv_in_nhwc", "transposed_2d")  # fmt: skip


def calls(merged):
    """The layers' types and the functions that a graph calls, in order."""
    nodes = [n for n in merged.graph.nodes if n.op.startswith("call_")]
    return [type(merged.get_submodule(n.target)) if n.op == "call_module" else n.target
            for n in nodes]  # fmt: skip


@pytest.fixture(params=CHOSEN)
def chosen(request, randomize_batch_norm):
    """A model in float32, an image and the merged model."""
    model, shape, _ = CASES[request.param]
    model = randomize_batch_norm(copy.deepcopy(model)).float().eval()
    image = torch.randn(shape)
    return model, image, reparameterize(model, image)


@pytest.mark.parametrize(("model", "shape", "expected"), CASES.values(), ids=CASES.keys())
def test_one_layer_and_the_order_of_its_axes(model, shape, expected, merge_exactly):
    merged = merge_exactly(copy.deepcopy(model), torch.randn(shape))
    assert calls(merged) == expected


def test_merged_heads_have_the_size_of_one():
    model, shape, _ = CASES["heads"]
    merged = reparameterize(copy.deepcopy(model).eval(), torch.randn(shape))
    assert {name: tuple(value.shape) for name, value in merged.state_dict().items()} == {
        "reparam_conv.weight": (6, 4),
        "reparam_conv.bias": (6,),
    }


def test_pointwise_convolution_of_nhwc_with_groups_stays_a_convolution(merge_exactly):
    model = Net(
        lambda net, x: to_nhwc(net.norm(net.a(to_nchw(x)))) + x,
        a=nn.Conv2d(4, 4, 1, groups=2),
        norm=nn.BatchNorm2d(4),
    )
    merged = merge_exactly(model, torch.randn(2, 5, 6, 4))
    assert calls(merged) == ["permute", nn.Conv2d, "permute"]


def test_reshaping_that_mixes_rows_is_kept(merge_exactly):
    model = Net(lambda net, x: net.b(net.a(x).flatten(1)), a=linear(4, 6), b=linear(18, 3))
    assert calls(merge_exactly(model, torch.randn(2, 3, 4))) == [nn.Linear, "flatten", nn.Linear]


@pytest.mark.parametrize("axes", [(1, 2), (0, 2), (0, 1)], ids=str)
def test_rows_that_stay_regrouped_stay_so(axes, merge_exactly):
    model = Net(
        lambda net, x: net.norm(net.b(net.a(x).relu().flatten(*axes)).flatten(0, -2)),
        a=linear(),
        b=linear(6, 3),
        norm=nn.BatchNorm1d(3),
    )
    merged = merge_exactly(model, torch.randn(2, 3, 5, 4))
    assert calls(merged).count(nn.Linear) == 2


def test_other_batch_sizes(chosen):
    model, image, merged = chosen
    image = torch.randn(7, *image.shape[1:])
    torch.testing.assert_close(merged(image), model(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chosen", [n for n in CHOSEN if len(CASES[n][1]) == 4], indirect=True)
def test_channels_last(chosen):
    model, image, _ = chosen
    model = model.to(memory_format=torch.channels_last)
    image = image.contiguous(memory_format=torch.channels_last)
    merged = reparameterize(model, image)
    torch.testing.assert_close(merged(image), model(image), rtol=1e-4, atol=1e-5)
    for layer in merged.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16(chosen):
    model, image, _ = chosen
    merged = reparameterize(model.bfloat16(), image.bfloat16())
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}
    result = merged(image.bfloat16())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result, model(image.bfloat16()), rtol=0.05, atol=0.05)


def test_copy_shares_nothing(chosen):
    model, image, merged = chosen
    duplicate = copy.deepcopy(merged)
    with torch.no_grad():
        for parameter in merged.parameters():
            parameter.zero_()
    torch.testing.assert_close(duplicate(image), model(image), rtol=1e-4, atol=1e-5)
    assert calls(duplicate) == calls(merged)


def test_export(chosen):
    model, image, merged = chosen
    exported = torch.export.export(merged, (image,)).module()
    torch.testing.assert_close(exported(image), model(image), rtol=1e-4, atol=1e-5)


def test_compile(chosen):
    model, image, merged = chosen
    compiled = torch.compile(merged, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image), model(image), rtol=1e-4, atol=1e-5)


def test_gradients_flow_through_the_order_of_axes(chosen):
    model, image, merged = chosen
    expected, found = (
        torch.autograd.grad(network(leaf).square().sum(), leaf)[0]
        for network, leaf in ((n, image.clone().requires_grad_()) for n in (model, merged))
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
