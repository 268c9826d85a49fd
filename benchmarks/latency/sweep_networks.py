"""The networks whose INT8 latency `benchmarks.latency.sweep` compares with FP32."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import timm
import torchvision
from torch import nn

from benchmarks.accuracy.timm_families import FAMILIES
from benchmarks.latency.int8 import NETWORKS
from benchmarks.peers.networks import MergedRVSR
from repq_fx.models import cifar_repvgg, fashion_repvgg

# One of each family of torchvision's classifiers.
_TORCHVISION = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet",
    "inception_v3", "maxvit_t", "mnasnet0_5", "mnasnet1_0", "mobilenet_v2", "mobilenet_v3_large",
    "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnet50",
    "resnext50_32x4d", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "squeezenet1_0",
    "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg16_bn", "vit_b_16", "wide_resnet50_2",
)  # fmt: skip
_OTHER_SIDES = {"torchvision inception_v3": 299}


@dataclass(frozen=True)
class Network:
    """A float model in evaluation mode, and the shape of one image.

    Attributes:
        name: The library and the model.
        build: Makes the model, given the folder of weights.
        shape: Channels, height and width.
        is_random: Whether its weights are.
    """

    name: str
    build: Callable[[Path], nn.Module]
    shape: tuple[int, int, int]
    is_random: bool = True


def networks() -> Iterator[Network]:
    """All: those of the other benchmarks, timm's families, torchvision's classifiers."""
    for name, network in NETWORKS.items():
        shape = (3, network.side, network.side)
        yield Network(name, network.build, shape, is_random=name.startswith("repvgg"))
    yield Network("cifar_repvgg", lambda _: cifar_repvgg(), (3, 32, 32))
    yield Network("fashion_repvgg", lambda _: fashion_repvgg(), (1, 28, 28))
    yield Network("rvsr_x4", lambda _: MergedRVSR(), (3, 64, 64))
    for family in FAMILIES:
        shape = timm.get_pretrained_cfg(family.name).input_size
        yield Network(f"timm {family.name}", partial(_of_timm, name=family.name), shape)
    for model in _TORCHVISION:
        name = f"torchvision {model}"
        side = _OTHER_SIDES.get(name, 224)
        yield Network(name, partial(_of_torchvision, name=model), (3, side, side))


def _of_timm(_: Path, name: str) -> nn.Module:
    return timm.create_model(name)


def _of_torchvision(_: Path, name: str) -> nn.Module:
    return torchvision.models.get_model(name, weights=None)
