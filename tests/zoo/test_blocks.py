"""Every block structure of public re-parameterized networks, merged into as few layers as it can.

Each entry says how many convolutions and linear layers are left. Where that is one, the block is
also probed with impulses: what it answers is the kernel of the convolution that must exist.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from .checks import (
    CONVOLUTIONS,
    LAYERS,
    NORMS,
    assert_one_convolution,
    assert_same,
    calls_of,
    count_parameters,
    impulse_response,
    is_block_diagonal,
    merged_exactly,
    randomized,
)
from .classifiers import Attention, TokenLinear, TwoHeads, VanillaBlock
from .diverse_branch import DiverseBranch, OnlineReparam, OnlineRepVGG
from .large_kernel import (
    DecomposedLargeKernel,
    DilatedReparam,
    ReparamLargeKernel,
    RepLKBlock,
    UniRepLKBlock,
)
from .mobile import (
    EdgeBranches,
    LearnableRepLayer,
    MobileOne,
    RepCPE,
    RepGhost,
    RepLargeKernel,
    RepMixer,
    RepViTDepthwise,
    TextRepMixer,
    mobileone_pair,
    repvit_block,
)
from .repvgg import (
    AsymmetricConv,
    CrossStage,
    ImplicitHead,
    LinearAdd,
    QARepVGG,
    RepConv,
    RepVGG,
    RepVGGPlus,
    SqueezeExcite,
    VGGBlock,
)
from .strided import CopiedWeights, EndPadded, ParameterGate, PooledPoint
from .super_resolution import (
    Conv3XC,
    EdgeConv,
    NestedResidual,
    PointwiseChain,
    StaleConv3XC,
)

SIZES = {"even": (12, 12, 4), "odd": (11, 13, 5)}


@dataclass(frozen=True)
class Entry:
    """One block.

    Attributes:
        build: From the stride to the block in its training form.
        channels: Channels of its input.
        layers: Convolutions and linear layers that remain, at most.
        kernel: Kernel size of one of them.
        groups: Groups of that one.
        padding: Padding of that one; by default it keeps the size of its input.
        strides: Strides to test.
        dims: Spatial dimensions of the input.
    """

    build: Callable[[int], nn.Module]
    channels: int
    layers: int
    kernel: tuple[int, ...] | None = None
    groups: int = 1
    padding: int | None = None
    strides: tuple[int | tuple[int, int], ...] = (1,)
    dims: int = 2


def one(build, channels, size, **options) -> Entry:
    """An entry that becomes one convolution; `size` is a number or the size of its kernel."""
    dims = options.get("dims", 2)
    kernel = size if isinstance(size, tuple) else (size,) * dims
    return Entry(build, channels, 1, kernel, **options)


def depthwise(build, channels, size, **options) -> Entry:
    return one(build, channels, size, groups=channels, **options)


def qarepvgg(*norms, **options) -> Entry:
    return one(lambda s: QARepVGG(4, 4, s, norms, **options), 4, 3, strides=(1, 2))


def asymmetric(kernel_size, padding) -> Entry:
    return one(
        lambda s: AsymmetricConv(4, 6, kernel_size, s, padding), 4, kernel_size,
        padding=padding, strides=(1, 2),
    )  # fmt: skip


ZOO = {
    "repvgg": one(lambda s: RepVGG(4, 4, s), 4, 3, strides=(1, 2)),
    "repvgg_grouped": one(lambda s: RepVGG(8, 8, s, groups=2), 8, 3, groups=2, strides=(1, 2)),
    "repvgg_widening": one(lambda s: RepVGG(4, 6, s), 4, 3, strides=(1, 2)),
    "repvgg_squeezed": Entry(lambda s: RepVGG(4, 4, s, squeeze=SqueezeExcite(4)), 4, 3, (3, 3)),
    "repvgg_plus": Entry(lambda _: RepVGGPlus(4), 4, 7, (3, 3)),
    "repvgg_1d": one(lambda s: RepVGG(4, 4, s, dims=1), 4, 3, dims=1, strides=(1, 2)),
    "repvgg_3d": one(lambda s: RepVGG(4, 4, s, dims=3), 4, 3, dims=3, strides=(1, 2)),
    "repconv": one(lambda s: RepConv(4, 4, s), 4, 3, strides=(1, 2)),
    "repconv_identity": one(lambda s: RepConv(4, 4, s, norm=True), 4, 3),
    "cross_stage": Entry(lambda _: CrossStage(8), 8, 4, (3, 3)),
    "vggblock": one(lambda _: VGGBlock(4, 6, has_alpha=False), 4, 3),
    "vggblock_alpha": one(lambda _: VGGBlock(4, 6, has_alpha=True), 4, 3),
    "qarepvgg_v0": qarepvgg(),
    "qarepvgg_v1": qarepvgg("dense", "point", "skip"),
    "qarepvgg_v2": qarepvgg("dense"),
    "qarepvgg_v2_alpha": qarepvgg("dense", bias=True, has_alpha=True),
    "qarepvgg_v2_pooled": qarepvgg("dense", pool=True),
    "qarepvgg_v3": qarepvgg("point"),
    "qarepvgg_v4": qarepvgg("skip"),
    "qarepvgg_v5": qarepvgg("dense", "point"),
    "linear_add": one(lambda s: LinearAdd(4, 4, s), 4, 3, strides=(1, 2)),
    "asymmetric_k3p1": asymmetric(3, 1),
    "asymmetric_k3p0": asymmetric(3, 0),
    "asymmetric_k5p2": asymmetric(5, 2),
    "asymmetric_k5p1": asymmetric(5, 1),
    "implicit_head": one(lambda _: ImplicitHead(4, 6), 4, 1),
    "mobileone": one(lambda s: MobileOne(4, 4, 3, s), 4, 3, strides=(1, 2)),
    "mobileone_depthwise": depthwise(
        lambda s: MobileOne(4, 4, 3, s, groups=4, branches=2), 4, 3, strides=(1, 2)
    ),
    "mobileone_pointwise": one(lambda _: MobileOne(4, 4, 1), 4, 1),
    "mobileone_pair": Entry(lambda s: mobileone_pair(4, 6, s), 4, 4, (3, 3), 4, strides=(1, 2)),
    "repmixer": depthwise(lambda _: RepMixer(4, 3), 4, 3),
    "repmixer_unscaled": depthwise(lambda _: RepMixer(4, 3, layer_scale=False), 4, 3),
    "repmixer_text": depthwise(lambda _: TextRepMixer(4, (1, 11)), 4, (1, 11)),
    "repcpe": depthwise(lambda _: RepCPE(4), 4, 7),
    "fastvit_large_kernel": depthwise(
        lambda s: RepLargeKernel(4, 8, 7, 3, s), 4, 7, strides=(1, 2)
    ),
    "repvit_depthwise": depthwise(lambda _: RepViTDepthwise(4, norms_sum=True), 4, 3),
    "lsnet_depthwise": depthwise(lambda _: RepViTDepthwise(4, norms_sum=False), 4, 3),
    "yolov10_depthwise": depthwise(lambda _: RepLargeKernel(4, 4, 7, 3), 4, 7),
    "repvit_block": Entry(lambda _: repvit_block(4), 4, 3, (3, 3), 4),
    "repghost": Entry(lambda _: RepGhost(4, 6, relu=True), 4, 2, (3, 3), 6),
    "repghost_bare": Entry(lambda _: RepGhost(4, 6, relu=True, fuses_norm=False), 4, 2, (3, 3), 6),
    "repghost_linear": Entry(lambda _: RepGhost(4, 6, relu=False), 4, 2, (3, 3), 6),
    "lcnet": one(lambda s: LearnableRepLayer(4, 4, 3, s), 4, 3, strides=(1, 2, (2, 1))),
    "lcnet_depthwise": depthwise(
        lambda s: LearnableRepLayer(4, 4, 5, s, groups=4), 4, 5, strides=(1, 2, (2, 1))
    ),
    "lcnet_pair": Entry(
        lambda s: nn.Sequential(
            LearnableRepLayer(4, 4, 3, s, groups=4), LearnableRepLayer(4, 6, 1)
        ), 4, 2, (3, 3), 4, strides=(1, (2, 1)),
    ),
    "edge_branches": Entry(lambda _: EdgeBranches(4, concatenates=False), 4, 3, (7, 7), 4),
    "edge_branches_joined": Entry(lambda _: EdgeBranches(8, concatenates=True), 8, 8),
    "replknet": depthwise(lambda s: ReparamLargeKernel(2, 13, 5, s), 2, 13, strides=(1, 2)),
    "replknet_block": Entry(lambda _: RepLKBlock(4, 13), 4, 3, (13, 13), 8),
    "slak_small": depthwise(lambda _: DecomposedLargeKernel(4, 7), 4, 7),
    "dilated_k5": depthwise(lambda _: DilatedReparam(2, 5), 2, 5),
    "dilated_k9": depthwise(lambda _: DilatedReparam(2, 9), 2, 9),
    "dilated_k13": depthwise(lambda _: DilatedReparam(2, 13), 2, 13),
    "dilated_k17": depthwise(lambda _: DilatedReparam(2, 17), 2, 17),
    "unireplknet_block": Entry(lambda _: UniRepLKBlock(4), 4, 3, (13, 13), 4),
    "dbb_k3": one(lambda s: DiverseBranch(4, 6, 3, s), 4, 3, strides=(1, 2)),
    "dbb_k5": one(lambda s: DiverseBranch(4, 4, 5, s), 4, 5, strides=(2,)),
    "dbb_grouped": one(lambda s: DiverseBranch(4, 8, 3, s, groups=2), 4, 3, groups=2),
    "dbb_depthwise": depthwise(lambda s: DiverseBranch(4, 4, 3, s, groups=4), 4, 3),
    "orepa": one(lambda s: OnlineReparam(4, 6, 3, s), 4, 3, strides=(2,)),
    "orepa_grouped": one(lambda s: OnlineReparam(4, 4, 3, s, groups=2), 4, 3, groups=2),
    "orepa_large": one(lambda s: OnlineReparam(3, 4, 7, s), 3, 7),
    "orepa_repvgg": one(lambda s: OnlineRepVGG(4, 4, s), 4, 3, strides=(1, 2)),
    "ecb": one(lambda _: EdgeConv(4, 4), 4, 3),
    "ecb_widening": one(lambda _: EdgeConv(3, 4), 3, 3),
    "ecb_deployed": one(lambda _: EdgeConv(4, 4, deployed=True), 4, 3),
    "conv3xc": one(lambda _: Conv3XC(4, 6), 4, 3),
    "conv3xc_deployed": one(lambda _: Conv3XC(4, 6, deployed=True), 4, 3),
    "conv3xc_stale": one(lambda _: StaleConv3XC(4, 6), 4, 3),
    "span": one(lambda _: CopiedWeights(4, 6), 4, 3),
    "plainusr": one(lambda _: ParameterGate(4), 4, 3),
    "rt4ksr": one(lambda _: NestedResidual(4), 4, 3),
    "ifadnet": one(lambda _: PointwiseChain(4, last=False), 4, 3),
    "mfdnet": one(lambda _: PointwiseChain(4, last=True), 4, 3),
    "vanillanet": Entry(lambda _: VanillaBlock(4, 8), 4, 2, (7, 7), 8),
    "vanillanet_stem": Entry(lambda _: VanillaBlock(3, 8, 4), 3, 2, (4, 4)),
    "transposed": Entry(
        lambda s: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, s), nn.BatchNorm2d(6)), 4, 1,
        strides=(1, 2),
    ),
    "attention": Entry(lambda _: Attention(4), 4, 2),
    "token_linear": Entry(lambda _: TokenLinear(4, 6), 4, 1),
    "two_heads": Entry(lambda _: TwoHeads(4, 6), 4, 1),
}  # fmt: skip


def stride_name(stride: int | tuple[int, int]) -> str:
    return "s" + "x".join(map(str, stride if isinstance(stride, tuple) else (stride,)))


BUILDS = [
    pytest.param(entry, stride, id=f"{name}-{stride_name(stride)}")
    for name, entry in ZOO.items()
    for stride in entry.strides
]
PROBED = [
    build for build in BUILDS if build.values[0].layers == 1 and build.values[0].kernel is not None
]


@pytest.mark.parametrize(("entry", "stride"), PROBED)
def test_block_is_one_convolution(entry, stride, randomize_batch_norm):
    block = randomized(entry.build(stride), randomize_batch_norm)
    block.act = nn.Identity()
    padding = tuple(taps // 2 if entry.padding is None else entry.padding for taps in entry.kernel)
    strides = stride if isinstance(stride, tuple) else (stride,) * entry.dims
    kernel, bias = impulse_response(block, entry.channels, entry.kernel, strides, padding)
    assert is_block_diagonal(kernel, entry.groups)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[entry.dims - 1]
    for size in SIZES.values():
        image = torch.randn(2, entry.channels, *size[: entry.dims], dtype=torch.float64)
        assert_same(block(image), convolve(image, kernel, bias, strides, padding))


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize(("entry", "stride"), BUILDS)
def test_merged_block(entry, stride, size, randomize_batch_norm):
    block = randomized(entry.build(stride), randomize_batch_norm)
    image = torch.randn(2, entry.channels, *size[: entry.dims], dtype=torch.float64)
    merged = merged_exactly(block, image)
    assert count_parameters(merged) <= count_parameters(block)
    assert len(calls_of(merged, LAYERS)) <= entry.layers
    assert calls_of(merged, NORMS) == []
    if entry.kernel is not None:
        found = {(layer.kernel_size, layer.groups) for layer in calls_of(merged, CONVOLUTIONS)}
        assert (entry.kernel, entry.groups) in found
        if entry.layers == 1:
            assert_one_convolution(merged, getattr(block, "act", nn.Identity()))


@pytest.mark.parametrize("build", [EndPadded, PooledPoint])
def test_branches_whose_windows_end_differently(build, randomize_batch_norm):
    block = randomized(build(4, 6), randomize_batch_norm)
    merged = merged_exactly(block, torch.randn(2, 4, 12, 8, dtype=torch.float64))
    (conv,) = calls_of(merged, CONVOLUTIONS)
    assert conv.kernel_size == (3, 3)
    assert count_parameters(merged) == count_parameters(conv)
    for height, width in ((2, 2), (6, 14), (4, 2)):
        image = torch.randn(3, 4, height, width, dtype=torch.float64)
        assert_same(block(image), merged(image))
