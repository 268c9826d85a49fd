"""A scale and a shift of each channel behind merged convolutions (QPRep of RepAPQ)."""

from collections.abc import Collection
from typing import Any

from torch import nn
from torch.fx import GraphModule

from ..graph.module_names import free_name

_NORMS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}


def append_affines(model: nn.Module, convolutions: Collection[str]) -> None:
    """Put a channel affine that changes nothing yet behind each call of these layers, in place.

    It is a batch normalization with fixed statistics of mean 0 and variance 1, named as the layer
    with ``_affine``: what is known about these, such as that `prepare_fx` folds them into the
    convolution, holds for it.

    Args:
        model: Its graph modules, or itself, call the layers.
        convolutions: Qualified names in `model`; those of other layers are passed over.
    """
    for prefix, part in list(model.named_modules()):
        if not isinstance(part, GraphModule):
            continue
        affines: dict[str, str] = {}
        for node in list(part.graph.nodes):
            name = f"{prefix}.{node.target}" if prefix else str(node.target)
            if node.op != "call_module" or name not in convolutions:
                continue
            layer: Any = part.get_submodule(str(node.target))
            norm = _NORMS.get(type(layer))
            if norm is None:
                continue
            if name not in affines:
                affines[name] = free_name(part, f"{node.target}_affine")
                affine = norm(layer.out_channels, eps=0.0).to(layer.weight).eval()
                part.add_submodule(affines[name], affine)
            with part.graph.inserting_after(node):
                result = part.graph.call_module(affines[name], (node,))
            node.replace_all_uses_with(result, lambda user, own=result: user is not own)
        part.graph.lint()
        part.recompile()
