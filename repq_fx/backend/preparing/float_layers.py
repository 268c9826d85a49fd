"""Layers that multiply by weights and yet stay in float."""

import logging
from collections import Counter
from collections.abc import Iterator

import torch.nn.functional as F
from torch import nn
from torch.nn.modules.conv import _ConvNd

from ..prepared_view import PreparedView

_LOGGER = logging.getLogger(__name__)

_LAYERS = (
    _ConvNd, nn.Linear, nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention
)  # fmt: skip
_FUNCTIONS = {
    F.conv1d: "conv1d", F.conv2d: "conv2d", F.conv3d: "conv3d", F.linear: "linear",
    F.conv_transpose1d: "conv_transpose1d", F.conv_transpose2d: "conv_transpose2d",
    F.conv_transpose3d: "conv_transpose3d",
}  # fmt: skip


def report_float_layers(view: PreparedView) -> None:
    """Warn once of layers that have no integer form; those that overrides exclude do not count."""
    stay: Counter[str] = Counter()
    quantized = 0
    nodes = list(view.graph_module.graph.nodes)
    called = {str(node.target): view.module(node) for node in nodes if node.op == "call_module"}
    for name, layer in (each for item in called.items() for each in _layers(*item)):
        if name in view.plans:
            quantized += 1
        elif getattr(layer, "qconfig", None) is not None:
            stay[type(layer).__name__] += 1
    stay.update(_FUNCTIONS[n.target] for n in nodes if n.target in _FUNCTIONS)
    if stay:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(stay.items()))
        _LOGGER.warning(
            "%d of %d layers that multiply stay in float, for want of an integer form: %s",
            stay.total(), quantized + stay.total(), kinds,
        )  # fmt: skip


def _layers(name: str, module: nn.Module | None) -> Iterator[tuple[str, nn.Module]]:
    """The outermost layers with weights in `module`, which may be one itself, and their names."""
    if isinstance(module, _LAYERS):
        yield name, module
    elif module is not None:
        for key, child in module.named_children():
            yield from _layers(f"{name}.{key}", child)
