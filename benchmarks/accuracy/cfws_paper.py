"""The ablations of the CFWS paper (arXiv 2312.10588) as rows, and the figures it publishes.

What differs here, as far as the paper and its repository tell (its toolkit is not public):

- Activations before the ReLU, and those called "signed", have 127 positive levels as theirs have.
  Those called "unsigned" are ours: a tensor without negative values gets all 255.
- Biases stay in float; theirs are rounded to int16.
- Every convolution and linear layer is quantized, the first and the last too, as theirs; the
  network's output is not. They split every 3x3 convolution, so here the threshold is 0.
- We do not know whether the weights of their baseline have one scale or one for each channel, nor
  how their KL builds its histogram. So both granularities stand beside one published figure, "KL"
  of the paper beside `KL.nvidia()`, and its "transformed" KL beside the formula of its repository.
- They calibrate on 32 images, which we do not know; ours are 32 training images.
- Their tables disagree on the baseline (RepVGG-A1 61.7 and 64.0, B1 54.6 and 26.8); these are the
  ablations' figures, which their own toolkit measured.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from repq_fx import (
    KL,
    MSE,
    CoarseFine,
    Cosine,
    MinMax,
    PerChannel,
    PerTensor,
    Scheme,
    api,
)
from repq_fx.quant import ActivationObserver, TensorHistogram

RULES = {
    "MinMax": MinMax(),
    "MSE": MSE(),
    "cosine": Cosine(),
    "KL nvidia": KL.nvidia(),
    # "half" would halve the 128 levels of `Placement.AFTER_RELU_SIGNED` once more.
    "KL cfws": replace(KL.cfws(), levels=128),
    "KL": KL(),
}
WEIGHTS = {
    "per tensor": PerTensor(MinMax()),
    "per channel": PerChannel(MinMax()),
    "CFWS per tensor": CoarseFine(PerTensor(MinMax()), threshold=0.0),
    "CFWS per channel": CoarseFine(PerChannel(MinMax()), threshold=0.0),
}


class Placement(str, Enum):
    """Which tensor the range of an activation is taken from, and its grid."""

    BEFORE_RELU = "before ReLU, signed"  # the paper's baseline
    AFTER_RELU_SIGNED = "after ReLU, signed"  # the paper's "ReLU fusion"
    AFTER_RELU = "after ReLU, unsigned"  # ours


@dataclass(frozen=True)
class Variant:
    """One row: keys of `WEIGHTS` and `RULES`, and the placement."""

    weight: str
    rule: str
    placement: Placement

    @property
    def is_split(self) -> bool:
        """Whether the weights are split into coarse and fine."""
        return self.weight.startswith("CFWS")

    def published(self, network: str) -> float | None:
        """Top-1 that the paper prints for this combination, None where it prints none."""
        figures = PUBLISHED.get((self.is_split, self.rule, self.placement), {})
        return figures.get(network)


# ImageNet top-1 in percent, as published in the paper; none of these was measured here.
PUBLISHED_FLOAT = {"repvgg_a0": 72.4, "repvgg_a1": 74.5, "repvgg_b1": 78.4}
PUBLISHED: Mapping[tuple[bool, str, Placement], Mapping[str, float]] = {
    (False, "MinMax", Placement.BEFORE_RELU): {"repvgg_a1": 2.7},
    (False, "MSE", Placement.BEFORE_RELU): {"repvgg_a1": 6.6},
    (False, "cosine", Placement.BEFORE_RELU): {"repvgg_a1": 2.6},
    (False, "KL nvidia", Placement.BEFORE_RELU): {"repvgg_a1": 64.0, "repvgg_b1": 26.8},
    (False, "KL cfws", Placement.BEFORE_RELU): {"repvgg_a1": 64.8, "repvgg_b1": 44.5},
    # "KL alone": the transformed logarithm and ReLU fusion.
    (False, "KL cfws", Placement.AFTER_RELU_SIGNED): {"repvgg_a1": 65.8, "repvgg_b1": 62.0},
    # "CFWS alone" is on top of the baseline's KL.
    (True, "KL nvidia", Placement.BEFORE_RELU): {"repvgg_a1": 73.1, "repvgg_b1": 54.2},
    (True, "KL cfws", Placement.AFTER_RELU_SIGNED): {
        "repvgg_a0": 69.2, "repvgg_a1": 74.2, "repvgg_b1": 75.7,
    },
}  # fmt: skip


def all_variants() -> list[Variant]:
    """Every weight quantizer with every rule and placement."""
    return [
        Variant(weight, rule, placement)
        for weight in WEIGHTS
        for placement in Placement
        for rule in RULES
    ]


def paper_variants() -> list[Variant]:
    """Those that the paper has figures for."""
    return [v for v in all_variants() if (v.is_split, v.rule, v.placement) in PUBLISHED]


@dataclass(frozen=True)
class Histograms:
    """What calibration saw, by the name of the observer.

    Attributes:
        quantized: The tensors that are quantized.
        before_relu: The inputs of the ReLUs in front of them, where there is one.
    """

    quantized: dict[str, TensorHistogram]
    before_relu: dict[str, TensorHistogram]

    @staticmethod
    def collect(merged: GraphModule, images: Tensor) -> "Histograms":
        """Calibrate once; no histogram depends on the scheme."""
        prepared = api.prepare(merged, images[:2], Scheme.vanilla())
        before: dict[str, TensorHistogram] = {}
        hooks = []
        for observer, layer in _observed_relus(prepared):
            histogram = before.setdefault(observer, TensorHistogram())

            def count(
                _layer: nn.Module,
                _args: object,
                output: Tensor,
                histogram: TensorHistogram = histogram,
            ) -> None:
                histogram.update(output)

            hooks.append(prepared.get_submodule(layer).register_forward_hook(count))
        api.calibrate(prepared, images, progress=False)
        for hook in hooks:
            hook.remove()
        return Histograms(
            {name: observer.histogram for name, observer in _observers(prepared)}, before
        )


def quantize(
    merged: GraphModule, images: Tensor, histograms: Histograms, variant: Variant, backend: str
) -> GraphModule:
    """The merged model with 8-bit weights and activations, quantized as `variant` says."""
    # The grid of two-sided tensors is centred in all placements, as in the paper.
    scheme = Scheme(
        8, 8, WEIGHTS[variant.weight], RULES[variant.rule], symmetric=True, bias_correction=False
    )
    prepared = api.prepare(merged, images[:2], scheme)
    for name, observer in _observers(prepared):
        histogram = histograms.quantized[name]
        if variant.placement is Placement.BEFORE_RELU:
            # Rounding on a grid centred at 0 commutes with the ReLU.
            histogram = histograms.before_relu.get(name, histogram)
        observer.histogram = histogram
        if variant.placement is not Placement.AFTER_RELU and not histogram.is_two_sided:
            # The positive half of int8.
            observer.plan = replace(observer.plan, activation_bits=7)
    return api.convert(prepared, backend)


@dataclass
class Scores:
    """How many images a model classified correctly, and how many like FP32."""

    correct: int = 0
    agreeing: int = 0
    seen: int = 0

    def count(self, found: Tensor, expected: Tensor, truth: Tensor) -> None:
        """Add one batch of class indices ``[N]``."""
        self.correct += int((found == truth).sum())
        self.agreeing += int((found == expected).sum())
        self.seen += len(truth)

    @property
    def top1(self) -> float:
        """Percent."""
        return 100 * self.correct / self.seen

    @property
    def agreement(self) -> float:
        """Percent."""
        return 100 * self.agreeing / self.seen


@torch.inference_mode()
def evaluate(
    reference: nn.Module, models: Sequence[nn.Module], batches: Iterable[Tensor], labels: Tensor
) -> list[Scores]:
    """Scores of the reference and of each model; every batch is decoded once for all of them."""
    scores = [Scores() for _ in range(len(models) + 1)]
    for batch in batches:
        truth = labels[scores[0].seen :][: len(batch)]
        expected = reference(batch).argmax(1)
        scores[0].count(expected, expected, truth)
        for model, score in zip(models, scores[1:], strict=True):
            score.count(model(batch).argmax(1), expected, truth)
    return scores


def _observers(prepared: GraphModule) -> Iterator[tuple[str, ActivationObserver]]:
    for name, module in prepared.named_modules():
        if isinstance(module, ActivationObserver):
            yield name, module


def _observed_relus(prepared: GraphModule) -> Iterator[tuple[str, str]]:
    """Names of the observers behind a layer and its ReLU, with the name of the layer."""
    names = {observer: name for name, observer in _observers(prepared)}
    for node in prepared.graph.nodes:
        observer = _called(prepared, node)
        relu = node.args[0] if isinstance(observer, ActivationObserver) else None
        if isinstance(_called(prepared, relu), nn.ReLU):
            layer = relu.args[0]
            if isinstance(_called(prepared, layer), nn.Conv2d | nn.Linear):
                yield names[observer], str(layer.target)


def _called(graph: GraphModule, node: object) -> nn.Module | None:
    is_call = isinstance(node, Node) and node.op == "call_module"
    return graph.get_submodule(str(node.target)) if is_call else None
