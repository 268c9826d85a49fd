import operator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from repq_fx.passes.affine.value import Source
from repq_fx.passes.affine.views import affine_values, evaluate, features_of
from repq_fx.reparam import split_padding, to_conv


class Net(nn.Module):
    """Applies a function to an image and its conv-bn."""

    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.function = function

    def forward(self, x):
        return self.function(Values(x, self.norm(self.conv(x)), self.norm))


class Values(NamedTuple):
    """What the functions below compute with: an image, its conv-bn, and the norm of that."""

    x: Tensor
    y: Tensor
    norm: nn.BatchNorm2d


def in_place(function, mutated, operand):
    """Call an in-place operator; torch.fx would record ``y += x`` as an ordinary sum."""
    if isinstance(mutated, fx.Proxy):
        return mutated.tracer.create_proxy("call_function", function, (mutated, operand), {})
    return function(mutated, operand)


AFFINE = {
    "add": lambda v: v.y + v.x,
    "iadd": lambda v: in_place(operator.iadd, v.y, v.x),
    "number_of_axes": lambda v: torch.add(v.y, v.x, alpha=v.x.ndim),
    "torch_add": lambda v: torch.add(v.y, v.x, alpha=3),
    "method_add": lambda v: v.y.add(v.x),
    "method_add_": lambda v: v.y.add_(v.x, alpha=0.5),
    "add_zero": lambda v: 0 + v.y,
    "add_zero_float": lambda v: v.y + 0.0,
    "add_number": lambda v: v.y + 1.5,
    "sub": lambda v: v.y - v.x,
    "isub": lambda v: in_place(operator.isub, v.y, v.x),
    "sub_number": lambda v: v.y - 2,
    "number_sub": lambda v: 2 - v.y,
    "torch_sub": lambda v: torch.sub(v.x, v.y, alpha=2),
    "method_sub": lambda v: v.x.sub(v.y),
    "method_sub_": lambda v: v.y.sub_(v.x),
    "mul": lambda v: v.y * 0.25,
    "number_mul": lambda v: -2 * v.y,
    "imul": lambda v: in_place(operator.imul, v.y, 2),
    "torch_mul": lambda v: torch.mul(v.y, 2),
    "method_mul": lambda v: v.y.mul(2),
    "method_mul_": lambda v: v.y.mul_(2),
    "neg": lambda v: -v.y,
    "torch_neg": lambda v: torch.neg(v.y),
    "method_neg": lambda v: v.y.neg(),
    "method_neg_": lambda v: v.y.neg_(),
    "twice": lambda v: v.y + v.y,
    "dropout_function": lambda v: F.dropout(v.y, 0.5, False),
    "batch_norm_function": lambda v: F.batch_norm(
        v.y, v.norm.running_mean, v.norm.running_var, bias=v.norm.bias, eps=1e-3
    ),
    "computed_constants": lambda v: F.batch_norm(
        v.y, v.norm.running_mean, v.norm.running_var, v.norm.weight * 2, -v.norm.bias
    ),
    "mul_by_channel": lambda v: v.y * v.norm.weight.view(1, -1, 1, 1),
    "mul_by_parameter": lambda v: v.norm.bias.reshape(4, 1, 1) * v.y,
    "mul_by_scalar_tensor": lambda v: v.y * v.norm.weight.sum(),
    "add_by_channel": lambda v: v.norm.bias[:, None, None] + v.y,
    "sub_by_channel": lambda v: torch.sub(v.y, v.norm.bias[:, None, None], alpha=2),
    "constant_sub": lambda v: v.norm.bias[:, None, None] - v.y,
    "div": lambda v: v.y / 3,
    "torch_div": lambda v: torch.div(v.y, v.norm.running_var.view(4, 1, 1)),
    "method_div_": lambda v: v.y.div_(-2),
    "leaky_relu": lambda v: F.leaky_relu(v.y, 1.0),
    "conv_function": lambda v: F.conv2d(v.x, v.norm.weight.view(4, 1, 1, 1), v.norm.bias, groups=4),
    "conv_of_a_sum": lambda v: F.conv2d(
        v.y - v.x, (v.norm.weight[:, None] * v.norm.bias).view(4, 4, 1, 1), stride=2
    ),
    "average_pool": lambda v: F.avg_pool2d(v.x, 3, 1, 1) + v.y,
    "average_pool_after": lambda v: F.avg_pool2d(v.y, 2),
    "average_pool_divisor": lambda v: F.avg_pool2d(v.x, (3, 1), divisor_override=7),
    "pad_before": lambda v: F.conv2d(F.pad(v.x, (1, 0, 2, 1)), v.norm.weight.view(1, 4, 1, 1)),
    "crop": lambda v: F.pad(v.x, (2, 2))[:, :, :, 1:-1],
    "last_channels": lambda v: v.y[:, 1:],
    "first_channels": lambda v: v.y[:, :3, 1:] + v.x[:, -3:, 1:],
    "channels_in_the_middle": lambda v: v.x[:, 1:-1],
    "channels_behind_rows": lambda v: v.y.permute(0, 2, 3, 1)[:, :, :, 1:3].permute(0, 3, 1, 2),
    "channels_beyond_the_end": lambda v: v.y[:, 2:9],
    "permuted_twice": lambda v: v.y.permute(0, 2, 3, 1).mul(v.norm.weight).permute(0, 3, 1, 2),
    "linear": lambda v: F.linear(
        v.y.permute(0, 2, 3, 1), v.norm.weight[:, None] * v.norm.bias, v.norm.bias
    ).permute(0, 3, 1, 2),
    "clone": lambda v: v.y.clone().contiguous(),
    "nested": lambda v: v.norm(v.y + v.x) - 0.5 * v.x,
}
OPAQUE = {
    "relu": lambda v: v.y.relu(),
    "product": lambda v: v.y * v.x,
    "power": lambda v: v.y**2,
    "broadcast": lambda v: v.y + v.x.mean((2, 3), keepdim=True),
    "own_source": lambda v: in_place(operator.iadd, v.x, v.y),
    "batch_statistics": lambda v: F.batch_norm(v.y, None, None, training=True),
    "computed_statistics": lambda v: F.batch_norm(
        v.y, v.norm.running_mean, v.norm.running_var, v.norm.weight * v.x.mean()
    ),
    "computed_factor": lambda v: torch.add(v.y, v.x, alpha=v.x.shape[0]),
    "active_dropout": lambda v: F.dropout(v.y, 0.0),
    "differs_within_a_channel": lambda v: v.y * torch.arange(5.0)[:, None],
    "computed_weight": lambda v: F.conv2d(v.x, v.x.mean((0, 2), keepdim=True).expand(4, 4, 1, 6)),
    "leaky_relu": lambda v: F.leaky_relu(v.y),
    "pad_after_bias": lambda v: F.pad(v.y, (1, 1)),
    "pad_with_ones": lambda v: F.pad(v.x, (1, 1), value=1.0),
    "reflected": lambda v: F.pad(v.x, (1, 1, 1, 1), mode="reflect"),
    "pooled_without_border": lambda v: F.avg_pool2d(v.x, 3, 1, 1, count_include_pad=False),
    "pooled_with_a_ceiling": lambda v: F.avg_pool2d(v.x, 2, ceil_mode=True),
    "transposed_image": lambda v: v.y.transpose(2, 3),
    "batch_cut": lambda v: v.y[1:],
    "first_channels_of_first_rows": lambda v: v.y[:, :2, :4],
    "every_second": lambda v: v.y[:, :, ::2],
    "first_four_rows": lambda v: v.y[:, :, :4],
    "last_four_rows": lambda v: v.y[:, :, -4:],
    "one_row": lambda v: v.y[:, :, 0],
    "random_weight": lambda v: v.y * F.dropout(v.norm.weight.view(4, 1, 1)),
    "output_argument": lambda v: torch.add(v.y, v.x, out=torch.empty_like(v.y)),
}
MODULES = {
    "identity": nn.Identity(),
    "dropout": nn.Dropout(),
    "dropout2d": nn.Dropout2d(inplace=True),
    "alpha_dropout": nn.AlphaDropout(),
    "feature_alpha_dropout": nn.FeatureAlphaDropout(),
    "batch_norm": nn.BatchNorm2d(4),
    "sync_batch_norm": nn.SyncBatchNorm(4),
    "no_affine": nn.BatchNorm2d(4, affine=False),
    "conv": nn.Conv2d(4, 2, 3, stride=2),
    "average_pool": nn.AvgPool2d(2),
    "parametrized": nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)),
    "leaky_relu": nn.LeakyReLU(1.0),
    "prelu": nn.PReLU(4, init=1.0),
}


def views_of_result(model, image):
    """What is known about a traced model's result, and its only placeholder."""
    traced = fx.symbolic_trace(model.eval())
    features = features_of(traced, (image,))
    result = traced.graph.output_node().args[0]
    source = Source(next(iter(traced.graph.nodes)), 1)
    return features, source, result, affine_values(features)[result]


def computed_by_one_conv(model, image):
    features, source, result, value = views_of_result(model, image)
    assert value.views[source].map.kernel.is_meta
    nodes = [n for n in features.graph_module.graph.nodes if n not in features.constants][1:-1]
    view = evaluate(features, source, nodes)
    assert nodes[-1] is result
    assert view.channel_axis == 1
    sides, conv_map = split_padding(view.map)
    amounts = [amount for pair in reversed(sides or ()) for amount in pair]
    return to_conv(conv_map, like=image, requires_grad=False)(F.pad(image, amounts))


@pytest.mark.parametrize("function", AFFINE.values(), ids=AFFINE.keys())
def test_affine_operators(function, randomize_batch_norm):
    model = randomize_batch_norm(Net(function)).double().eval()
    image = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        expected = model(image.clone())
        torch.testing.assert_close(computed_by_one_conv(model, image), expected)


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES.keys())
def test_affine_modules(module, randomize_batch_norm):
    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), module).double().eval()
    randomize_batch_norm(model)
    image = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(computed_by_one_conv(model, image), model(image))


@pytest.mark.parametrize("function", OPAQUE.values(), ids=OPAQUE.keys())
def test_other_operators_end_a_region(function):
    _, source, _, value = views_of_result(Net(function), torch.randn(2, 4, 5, 6))
    assert source.node not in {known.node for known in value.views}


def hooked(layer):
    layer.register_forward_hook(lambda *call: call[-1] * 2)
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        hooked(nn.Conv2d(4, 4, 1)),
        hooked(nn.BatchNorm2d(4)),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.PReLU(),
    ],
    ids=["hooked_conv", "hooked_norm", "batch_statistics", "prelu"],
)
def test_other_modules_end_a_region(layer):
    _, source, _, value = views_of_result(nn.Sequential(layer), torch.randn(2, 4, 5, 6))
    assert source not in value.views


@pytest.mark.parametrize("pad", [nn.ZeroPad2d((1, 0, 2, 1)), nn.ConstantPad2d(1, 0.0)], ids=repr)
def test_pad_modules(pad):
    model = nn.Sequential(pad, nn.Conv2d(4, 4, 3)).double()
    image = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(computed_by_one_conv(model, image), model(image))


def test_refusal_of_a_sum_names_the_reason():
    class Strides(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide = nn.Conv2d(2, 2, 1, stride=2)
            self.narrow = nn.Conv2d(2, 2, 2, padding=1, stride=3)

        def forward(self, x):
            return self.wide(x) + self.narrow(x)

    _, source, _, value = views_of_result(Strides(), torch.randn(1, 2, 3, 3))
    assert value.refusals[source] == ("its branches have strides (2, 2) and (3, 3)")
