import operator

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from repq_fx.nn import RepVGGBlock
from repq_fx.passes import find_regions, reparameterize, trace
from repq_fx.passes.merging.merge_regions import merge_regions


def conv_bn(channels, kernel_size=3, **options):
    conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


class MobileOne(nn.Module):
    """k convolutions, a 1x1 scale branch and an identity, summed the way the original does."""

    def __init__(self, channels, branches, kernel_size, groups=1):
        super().__init__()
        options = {"groups": groups, "bias": False}
        convs = (conv_bn(channels, kernel_size, **options) for _ in range(branches))
        self.convs = nn.ModuleList(convs)
        self.scale = conv_bn(channels, 1, **options) if kernel_size > 1 else None
        self.skip = nn.BatchNorm2d(channels)
        self.drop = nn.Dropout2d()

    def forward(self, x):
        total = 0 if self.scale is None else self.scale(x)
        for conv in self.convs:
            total += conv(x)
        total = self.drop(total)
        total += self.skip(x)
        return F.relu(total, inplace=True)


class Function(nn.Module):
    """A function of two layers, conv-bn pairs by default, and an image."""

    def __init__(self, function, first=None, second=None):
        super().__init__()
        self.first, self.second = first or conv_bn(4), second or conv_bn(4, 1)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


@pytest.mark.parametrize("groups", [1, 2, 4, 8], ids=["dense", "two", "four", "depthwise"])
@pytest.mark.parametrize("stride", [1, 2, 3], ids=["stride1", "stride2", "stride3"])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 2)], ids=["even", "odd", "tiny"])
def test_repvgg_block(groups, stride, size, merge_exactly, convs_of):
    block = RepVGGBlock(8, 8, stride=stride, groups=groups)
    merged = merge_exactly(block, torch.randn(2, 8, *size))
    assert convs_of(merged) == ["reparam_conv"]
    assert merged.reparam_conv.weight.shape == (8, 8 // groups, 3, 3)


def test_repvgg_block_without_identity(merge_exactly, convs_of):
    merged = merge_exactly(nn.Sequential(RepVGGBlock(4, 6)), torch.randn(1, 4, 5, 5))
    assert convs_of(merged) == ["0.reparam_conv"]


@pytest.mark.parametrize("branches", [1, 4], ids=["one", "four"])
@pytest.mark.parametrize("kernel_size", [1, 3], ids=["pointwise", "spatial"])
@pytest.mark.parametrize("groups", [1, 6], ids=["dense", "depthwise"])
def test_mobileone_block(branches, kernel_size, groups, merge_exactly, convs_of):
    model = nn.Sequential(MobileOne(6, branches, kernel_size, groups))
    merged = merge_exactly(model, torch.randn(2, 6, 7, 6))
    assert convs_of(merged) == ["0.reparam_conv"]
    assert [node.op for node in merged.graph.nodes].count("call_module") == 1


def test_block_without_activation_before_another(merge_exactly, convs_of):
    blocks = [RepVGGBlock(4, 4), RepVGGBlock(4, 4), RepVGGBlock(4, 4)]
    blocks[0].relu, blocks[1].relu = nn.Identity(), nn.Identity()
    merged = merge_exactly(nn.Sequential(*blocks), torch.randn(1, 4, 6, 6))
    assert convs_of(merged) == ["0.reparam_conv", "1.reparam_conv", "2.reparam_conv"]


def test_conv_bn_keeps_its_name(merge_exactly, convs_of):
    model = nn.Sequential(conv_bn(4, padding_mode="reflect"), nn.ReLU(), conv_bn(4, bias=False))
    model[0][1] = nn.BatchNorm2d(4, affine=False, eps=1e-3)
    merged = merge_exactly(model, torch.randn(2, 4, 6, 6))
    assert convs_of(merged) == ["0.0", "2.0"]
    assert set(merged.state_dict()) == {"0.0.weight", "0.0.bias", "2.0.weight", "2.0.bias"}


def test_linear_residual_is_merged(merge_exactly, convs_of):
    merged = merge_exactly(Function(lambda net, x: net.first(x) + x), torch.randn(1, 4, 5, 5))
    assert convs_of(merged) == ["first.reparam_conv"]


def test_nonlinear_residual_stays(merge_exactly, convs_of):
    model = Function(lambda net, x: net.second(net.first(x).relu()) + x)
    merged = merge_exactly(model, torch.randn(1, 4, 5, 5))
    assert convs_of(merged) == ["first.0", "second.0"]
    assert operator.add in {node.target for node in merged.graph.nodes}


def test_part_of_a_region_with_an_escaping_value(merge_exactly, convs_of):
    def escaping(net, x):
        y = net.first(x)
        return y + net.second(x), y.relu()

    model = Function(escaping).eval()
    image = torch.randn(1, 4, 5, 5)
    refused, *merged = find_regions(model, image)[::-1]
    assert refused.reason == "'first_1' is also used by 'relu', outside"
    assert [region.name for region in merged[::-1]] == ["first.0", "second.0"]
    assert all(region.merged for region in merged)
    assert refused.parameters_before == refused.parameters_after


def test_escaping_convolution_keeps_its_norm(merge_exactly, convs_of):
    def escaping(net, x):
        y = net.first[0](x)
        return net.first[1](y) * y

    merged = merge_exactly(Function(escaping), torch.randn(1, 4, 5, 5))
    assert any(isinstance(module, nn.BatchNorm2d) for module in merged.modules())


def test_shared_pair_becomes_one_shared_convolution(merge_exactly, convs_of):
    merged = merge_exactly(
        Function(lambda net, x: net.first(net.first(x).relu())), torch.randn(1, 4, 5, 5)
    )
    assert convs_of(merged) == ["first.0"]
    assert [node.target for node in merged.graph.nodes].count("first.0") == 2


def test_shared_convolution_with_two_norms(merge_exactly, convs_of):
    model = Function(
        lambda net, x: net.first[1](net.first[0](x)) * net.second[1](net.first[0](x.relu()))
    )
    merged = merge_exactly(model, torch.randn(1, 4, 5, 5))
    assert sorted(convs_of(merged)) == ["first.0", "reparam_conv"]


def test_convolution_that_is_used_elsewhere_stays(merge_exactly, convs_of):
    model = Function(lambda net, x: net.first[0](net.first(x).relu()))
    merged = merge_exactly(model, torch.randn(1, 4, 5, 5))
    assert convs_of(merged) == ["first.0", "first.reparam_conv"]


def test_weight_that_is_read_elsewhere_stays(merge_exactly, convs_of):
    model = Function(lambda net, x: net.first(x).relu() * net.first[0].weight.std())
    merged = merge_exactly(model, torch.randn(1, 4, 5, 5))
    assert torch.equal(merged.get_parameter("first.0.weight"), model.first[0].weight)
    assert "first.reparam_conv" in convs_of(merged)


def test_functional_convolution_becomes_a_module(merge_exactly, convs_of):
    model = Function(lambda net, x: F.conv2d(x.relu(), net.first[0].weight.abs(), padding=1))
    merged = merge_exactly(model, torch.randn(1, 4, 5, 5))
    assert convs_of(merged) == ["first.0"]
    assert set(merged.state_dict()) == {"first.0.weight"}


def test_source_that_is_overwritten_between_its_readers(merge_exactly, convs_of):
    def overwriting(net, x):
        y = x.relu()
        z = net.first(y)
        y.add_(1)
        return z + y

    model = Function(overwriting)
    merged = merge_exactly(model, torch.randn(1, 4, 5, 5))
    assert convs_of(merged) == ["first.0"]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_even_kernel_with_same_padding(merge_exactly, convs_of):
    model = Function(lambda net, x: net.first(x) + x, nn.Conv2d(4, 4, 2, padding="same"))
    merged = merge_exactly(model, torch.randn(1, 4, 5, 5))
    assert convs_of(merged) == ["reparam_conv"]
    assert F.pad in {node.target for node in merged.graph.nodes}


def test_cropped_branches(merge_exactly, convs_of):
    crop = nn.ZeroPad2d(-1)
    model = Function(lambda net, x: net.first(x) + crop(x), nn.Conv2d(4, 4, 3))
    merged = merge_exactly(model, torch.randn(1, 4, 5, 5))
    assert merged.reparam_conv.padding == (0, 0)


def test_padding_stays_beside_a_convolution_that_cannot_pad_so():
    model = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 4, 2), nn.ReLU()).eval()
    image = torch.randn(1, 4, 5, 5)
    (region,) = find_regions(model, image)
    assert region.reason == "the padding that one convolution lacks would stay beside it"


REFUSED = {
    "weights": (
        (nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.Conv2d(8, 8, 1)),
        "one convolution would need 1600 weights instead of 264",
    ),
    "geometry": (
        (nn.Conv2d(8, 8, 1, stride=9), nn.Conv2d(8, 8, 1, stride=8)),
        "its branches have strides (9, 9) and (8, 8)",
    ),
    "border": (
        (nn.Sequential(nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)), nn.Identity()),
        "it pads with zeros after a bias, so the border would differ",
    ),
    "no_convolution": ((nn.BatchNorm2d(8), nn.Identity()), "it holds no convolution"),
}


@pytest.mark.parametrize(("layers", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_region_leaves_the_graph_as_it_was(layers, reason):
    model, image = (
        Function(lambda net, x: net.first(x) + net.second(x), *layers).eval(),
        torch.randn(1, 8, 6, 6),
    )
    traced = trace(model, image)
    before, state = str(traced.graph), list(traced.state_dict())
    (region,) = merge_regions(traced, (image,))
    assert (region.merged, region.reason) == (False, reason)
    assert region.parameters_after == region.parameters_before
    assert (str(traced.graph), list(traced.state_dict())) == (before, state)


def test_model_without_regions_is_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten()).eval()
    image = torch.randn(1, 3, 6, 6)
    assert find_regions(model, image) == []
    assert str(reparameterize(model, image).graph) == str(trace(model, image).graph)


def test_merged_convolution_takes_after_the_originals():
    block = RepVGGBlock(4, 4).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    merged = reparameterize(block, torch.randn(1, 4, 5, 5))
    conv = merged.reparam_conv
    assert not any(parameter.requires_grad for parameter in conv.parameters())
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    block.dense[0].weight.requires_grad_()
    conv = reparameterize(block, torch.randn(1, 4, 5, 5)).reparam_conv
    assert all(parameter.requires_grad for parameter in conv.parameters())


def test_half_precision(randomize_batch_norm):
    block = randomize_batch_norm(RepVGGBlock(4, 4)).eval().bfloat16()
    merged = reparameterize(block, torch.randn(1, 4, 5, 5).bfloat16())
    assert merged.reparam_conv.weight.dtype == torch.bfloat16


def test_report_counts_branches_and_parameters():
    (region,) = find_regions(nn.Sequential(RepVGGBlock(4, 4)).eval(), torch.randn(1, 4, 5, 5))
    assert (region.name, region.branches, region.convs) == ("0.reparam_conv", 3, 2)
    assert (region.parameters_before, region.parameters_after) == (
        4 * 4 * 10 + 3 * 8,
        4 * 4 * 9 + 4,
    )
    assert region.source == "input_1"
    assert region.nodes[-1] == region.root


@pytest.mark.parametrize("rest", [[nn.BatchNorm2d(4)], []], ids=["norm", "alone"])
def test_parametrized_convolution_becomes_a_plain_one(merge_exactly, rest):
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3))
    merged = merge_exactly(nn.Sequential(conv, *rest), torch.randn(1, 4, 5, 5))
    assert set(merged.state_dict()) == {"0.weight", "0.bias"}
    assert type(merged.get_submodule("0")) is nn.Conv2d
