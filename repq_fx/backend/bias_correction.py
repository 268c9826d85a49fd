"""Empirical bias correction, layer by layer on the already quantized stream.

Rounding weights and clipping activations shifts the mean of every output channel. Each layer's bias
takes up the difference between the float network's mean output and its own, given inputs from the
layers before it, which are quantized and corrected already (Nagel et al., arXiv 1906.04721,
appendix D, in one sweep).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter

from ..quant import ActivationObserver, WeightObserver
from .reference import ReferenceConv2d, ReferenceLayer


@torch.no_grad()
def correct_biases(
    reference: GraphModule, prepared: GraphModule, inputs: tuple[Tensor, ...]
) -> None:
    """Correct the bias of every reference layer whose scheme asks for it, in place.

    Args:
        reference: The conversion of `prepared`, with the same module names.
        prepared: Still holds the float layers; its observers are not touched.
        inputs: One batch of calibration data. All intermediate tensors of one node after the other
            are computed for the whole batch.
    """
    corrected = {
        name
        for name, layer in prepared.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and _wants_correction(layer)
    }
    targets = _FloatMeans(prepared, corrected).collect(inputs)
    _Corrector(reference, targets).run(*inputs)


def _wants_correction(layer: nn.Module) -> bool:
    qconfig: Any = getattr(layer, "qconfig", None)
    observer = None if qconfig is None else qconfig.weight()
    return isinstance(observer, WeightObserver) and observer.corrects_bias


class _FloatMeans(Interpreter):
    """Runs the float network past its observers and keeps the mean output of some layers."""

    def __init__(self, prepared: GraphModule, names: set[str]) -> None:
        super().__init__(prepared)
        self._names = names
        self._means: dict[str, Tensor] = {}

    def collect(self, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        self.run(*inputs)
        return self._means

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = self.fetch_attr(target)
        if isinstance(layer, ActivationObserver):
            return args[0]
        output = super().call_module(target, args, kwargs)
        if target in self._names and target not in self._means:
            self._means[target] = _channel_mean(output, is_conv=isinstance(layer, nn.Conv2d))
        return output


class _Corrector(Interpreter):
    """Runs the quantized network and corrects each layer before its output is used."""

    def __init__(self, reference: GraphModule, targets: dict[str, Tensor]) -> None:
        super().__init__(reference)
        self._targets = dict(targets)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = super().call_module(target, args, kwargs)
        layer = self.fetch_attr(target)
        if not isinstance(layer, ReferenceLayer) or target not in self._targets:
            return output
        is_conv = isinstance(layer, ReferenceConv2d)
        # A layer that is called twice is corrected once, by its first call.
        shift = self._targets.pop(target) - _channel_mean(output, is_conv=is_conv)
        layer.bias = shift if layer.bias is None else layer.bias + shift
        return super().call_module(target, args, kwargs)


def _channel_mean(output: Tensor, *, is_conv: bool) -> Tensor:
    channel = 1 if is_conv else output.dim() - 1
    return output.mean([d for d in range(output.dim()) if d != channel])
