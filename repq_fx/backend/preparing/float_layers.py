"""Layers that multiply by weights and yet stay in float."""

import logging
from collections import Counter
from collections.abc import Iterator

import torch.nn.functional as F
from torch import nn
from torch.fx import GraphModule
from torch.nn.modules.conv import _ConvNd

from ..quantized_layer import weight_observer

_LOGGER = logging.getLogger(__name__)

_LAYERS = (
    _ConvNd, nn.Linear, nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention
)  # fmt: skip
_FUNCTIONS = {
    F.conv1d: "conv1d", F.conv2d: "conv2d", F.conv3d: "conv3d", F.linear: "linear",
    F.conv_transpose1d: "conv_transpose1d", F.conv_transpose2d: "conv_transpose2d",
    F.conv_transpose3d: "conv_transpose3d",
}  # fmt: skip


def report_float_layers(prepared: GraphModule) -> None:
    """Warn once of layers that have no integer form; those that overrides exclude do not count."""
    stay: Counter[str] = Counter()
    quantized = 0
    called = dict.fromkeys(str(n.target) for n in prepared.graph.nodes if n.op == "call_module")
    for layer in (each for name in called for each in _layers(prepared.get_submodule(name))):
        if weight_observer(layer) is not None:
            quantized += 1
        elif getattr(layer, "qconfig", None) is not None:
            stay[type(layer).__name__] += 1
    stay.update(_FUNCTIONS[n.target] for n in prepared.graph.nodes if n.target in _FUNCTIONS)
    if stay:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(stay.items()))
        _LOGGER.warning(
            "%d of %d layers that multiply stay in float, for want of an integer form: %s",
            stay.total(), quantized + stay.total(), kinds,
        )  # fmt: skip


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost layers with weights in `module`, which may be one itself."""
    if isinstance(module, _LAYERS):
        yield module
        return
    for child in module.children():
        yield from _layers(child)
