"""Structures of public networks that one convolution must not replace, or could only at a loss.

Each is left with as many layers as it has, every normalization inside of one of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from repq_fx import find_regions

from .checks import CONVOLUTIONS, NORMS, calls_of, count_parameters, merged_exactly, randomized
from .classifiers import VanillaBlock
from .large_kernel import DecomposedLargeKernel
from .mobile import LearnableAffine, RepGhost
from .repvgg import conv_bn


class Function(nn.Module):
    """A function of named layers and an image."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.function(self, x)


def chain(*layers):
    return lambda: nn.Sequential(*layers)


def total(first, second):
    return lambda: Function(lambda net, x: net.first(x) + net.second(x), first=first, second=second)


def residual_around_linear(net, x):
    y = net.mixer(x)
    return y + net.last(F.relu(net.first(y)))


@dataclass(frozen=True)
class Refusal:
    """A model of 4 channels.

    Attributes:
        build: Gives the model.
        convs: Convolutions that remain.
        is_reported: Whether a region is refused, rather than none seen.
    """

    build: Callable[[], nn.Module]
    convs: int
    is_reported: bool = False


REFUSALS = {
    # The bias of the first reaches the inside of the second's border only.
    "border": Refusal(chain(conv_bn(4, 8, 1), conv_bn(8, 4, 3)), 2),
    "border_depthwise": Refusal(chain(conv_bn(4, 4, 1), conv_bn(4, 4, 3, groups=4)), 2),
    "border_repghost": Refusal(lambda: RepGhost(4, 6, relu=False), 2),
    "border_affine": Refusal(
        chain(nn.Hardswish(), LearnableAffine(), conv_bn(4, 4, 3, groups=4)), 1
    ),
    # Without a bias too: beyond its border, the first would see the edge of its input.
    "border_without_bias": Refusal(
        chain(nn.Conv2d(4, 8, 3, padding=1, bias=False), conv_bn(8, 4, 3)), 2
    ),
    "cost_depthwise_pointwise": Refusal(
        chain(conv_bn(4, 4, 3, groups=4), conv_bn(4, 4, 1)), 2
    ),
    "cost_pointwise_depthwise": Refusal(
        chain(nn.Conv2d(4, 8, 1, bias=False), conv_bn(8, 8, 3, groups=8)), 2
    ),
    "pool_without_its_padding": Refusal(
        total(conv_bn(4, 4, 3), nn.AvgPool2d(3, 1, 1, count_include_pad=False)), 1
    ),
    "pool_with_a_ceiling": Refusal(
        total(conv_bn(4, 4, 4, 2, 1), nn.AvgPool2d(3, 2, ceil_mode=True)), 1
    ),
    "padding_modes": Refusal(
        total(conv_bn(4, 4, 3), conv_bn(4, 4, 3, padding_mode="reflect")), 2, is_reported=True
    ),
    "padding_mode_of_pool": Refusal(
        total(conv_bn(4, 4, 3, padding_mode="circular"), nn.AvgPool2d(3, 1, 1)), 1
    ),
    "strides": Refusal(
        total(conv_bn(4, 4, 3, 2), conv_bn(4, 4, 5, 1, 0)), 2, is_reported=True
    ),
    "escape": Refusal(
        lambda: Function(
            residual_around_linear, mixer=conv_bn(4, 4, 3, groups=4),
            first=conv_bn(4, 4, 7, groups=4), last=conv_bn(4, 4, 1),
        ), 3,
    ),
    "slope": Refusal(lambda: VanillaBlock(4, 8, slope=0.5), 3),
}  # fmt: skip


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
def test_convolutions_stay_apart(refusal, randomize_batch_norm):
    model = randomized(refusal.build(), randomize_batch_norm)
    image = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    merged = merged_exactly(model, image)
    assert len(calls_of(merged, CONVOLUTIONS)) == refusal.convs
    assert calls_of(merged, NORMS) == []
    assert count_parameters(merged) <= count_parameters(model)
    regions = find_regions(model, image)
    assert all(region.convs == 1 for region in regions if region.merged)
    if refusal.is_reported:
        assert any(region.reason for region in regions)


def test_affine_behind_an_activation_joins_a_convolution_without_border(randomize_batch_norm):
    layers = nn.Hardswish(), LearnableAffine(), conv_bn(4, 6, 1)
    model = randomized(nn.Sequential(*layers), randomize_batch_norm)
    merged = merged_exactly(model, torch.randn(2, 4, 8, 8, dtype=torch.float64))
    assert count_parameters(merged) == 4 * 6 + 6


def test_cross_does_not_become_a_square(randomize_batch_norm):
    model = randomized(DecomposedLargeKernel(4, 13), randomize_batch_norm)
    merged = merged_exactly(model, torch.randn(2, 4, 14, 15, dtype=torch.float64))
    # The small square may become a part of one of the strips, which costs nothing.
    sizes = {conv.kernel_size for conv in calls_of(merged, CONVOLUTIONS)}
    assert {(13, 5), (5, 13)} <= sizes <= {(13, 5), (5, 13), (5, 5)}
    assert calls_of(merged, NORMS) == []


@pytest.mark.parametrize("position", [0, 1, 2], ids=["first", "second", "third"])
def test_absolute_value_stays_beside_its_linear_siblings(position, randomize_batch_norm):
    def summed(net, x):
        branches = [net.large(x), net.point(x)]
        branches.insert(position, torch.abs(net.edge(x)))
        return sum(branches)

    layers = {"large": conv_bn(4, 4, 5), "point": conv_bn(4, 4, 1), "edge": conv_bn(4, 4, 3)}
    model = randomized(Function(summed, **layers), randomize_batch_norm)
    merged = merged_exactly(model, torch.randn(2, 4, 8, 8, dtype=torch.float64))
    sizes = sorted(conv.kernel_size for conv in calls_of(merged, CONVOLUTIONS))
    assert sizes == [(3, 3), (5, 5)]
    assert calls_of(merged, NORMS) == []
