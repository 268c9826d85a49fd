"""Lift calls in an exported graph whose weights belong to a layer to calls of that layer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

_aten = torch.ops.aten

_AFFINE = ("weight", "bias")
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_CONV = ("stride", "padding", "dilation", "groups")
_TRANSPOSED = ("stride", "padding", "output_padding", "groups", "dilation")


class LayerLifter:
    """Makes the layers of an exported graph, under the names they have in the model.

    They are new layers of torch with the model's own parameters: a subclass, a hook or a forward
    of the instance is already part of the graph and would act twice.

    Attributes:
        layers: The layers made so far, by qualified name.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers: dict[str, nn.Module] = {}
        self._calls: dict[str, tuple[Any, ...]] = {}
        self._owners: dict[tuple[int, ...], str] = {}
        self._model = model
        for name, module in model.named_modules():
            names = _operands_of(module)
            # The root has no name to call it by.
            if name and names and all(key in module._parameters for key in _AFFINE):
                tensors = tuple(id(getattr(module, key)) for key in names)
                self._owners.setdefault(tensors, name)

    def lift(self, node: Node, tensors: Mapping[Node, Tensor]) -> str | None:
        """The name of a layer that computes `node`, or None if no layer owns its operands.

        Args:
            node: A call of an aten operator.
            tensors: The parameters and constants of the graph.
        """
        rule = _RULES.get(node.target)
        if rule is None:
            return None
        arguments = dict(zip((*rule.operands, *rule.settings), node.args[1:], strict=False))
        operands = {
            name: tensors.get(operand) if isinstance(operand, Node) else None
            for name, operand in ((name, arguments.pop(name, None)) for name in rule.operands)
        }
        name = self._owners.get(tuple(id(tensor) for tensor in operands.values()))
        if name is None or any(isinstance(setting, Node) for setting in arguments.values()):
            return None
        call = (node.target, arguments)
        if name not in self.layers:
            layer = rule.build(node, operands, {key: _plain(v) for key, v in arguments.items()})
            if layer is None:
                return None
            self.layers[name] = _with_tensors(layer, operands, self._model.get_submodule(name))
            self._calls[name] = call
        return name if self._calls[name] == call else None


_Build = Callable[[Node, dict[str, Tensor | None], dict[str, Any]], nn.Module | None]


@dataclass(frozen=True)
class _Rule:
    """How an operator is lifted: its parameters after the input, and what makes the layer."""

    build: _Build
    operands: tuple[str, ...]
    settings: tuple[str, ...]


def _operands_of(module: nn.Module) -> tuple[str, ...]:
    if isinstance(module, _BatchNorm):
        return _STATISTICS if module.running_mean is not None else ()
    return _AFFINE if isinstance(module, _ConvNd | nn.Linear) else ()


def _plain(setting: Any) -> Any:
    """Without the list around a single number, which to torch holds for every dimension."""
    return setting[0] if isinstance(setting, list) and len(setting) == 1 else setting


def _with_tensors(
    layer: nn.Module, operands: Mapping[str, Tensor | None], owner: nn.Module
) -> nn.Module:
    for name, tensor in operands.items():
        setattr(layer, name, tensor)
    if isinstance(owner, _BatchNorm):
        layer.register_buffer("num_batches_tracked", owner.num_batches_tracked)
    return layer.eval()


def _conv(layer_class: type[nn.Module]) -> _Rule:
    is_transposed = issubclass(layer_class, _ConvTransposeNd)

    def build(
        _: Node, operands: dict[str, Tensor | None], settings: dict[str, Any]
    ) -> nn.Module | None:
        weight, groups = operands["weight"], settings.get("groups", 1)
        if weight is None:
            return None
        # The groups are left out of the second axis, which holds inputs unless transposed.
        first, second = weight.shape[0], weight.shape[1] * groups
        channels = (first, second) if is_transposed else (second, first)
        has_bias = operands["bias"] is not None
        taps = tuple(weight.shape[2:])
        return layer_class(*channels, taps, bias=has_bias, device="meta", **settings)

    return _Rule(build, _AFFINE, _TRANSPOSED if is_transposed else _CONV)


def _linear(_: Node, operands: dict[str, Tensor | None], __: dict[str, Any]) -> nn.Module | None:
    weight = operands["weight"]
    if weight is None:
        return None
    has_bias = operands["bias"] is not None
    return nn.Linear(weight.shape[1], weight.shape[0], bias=has_bias, device="meta")


def _batch_norm(
    node: Node, operands: dict[str, Tensor | None], settings: dict[str, Any]
) -> nn.Module | None:
    mean = operands["running_mean"]
    has_weight, has_bias = (operands[name] is not None for name in _AFFINE)
    layer_class = _BATCH_NORMS.get(node.meta["val"][0].dim())
    if mean is None or layer_class is None or has_weight != has_bias:
        return None
    return layer_class(len(mean), affine=has_weight, device="meta", **settings)


_BATCH_NORMS: Mapping[int, Callable[..., nn.Module]] = MappingProxyType(
    {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
)
_RULES: Mapping[Any, _Rule] = MappingProxyType(
    {
        _aten.conv1d.default: _conv(nn.Conv1d),
        _aten.conv1d.padding: _conv(nn.Conv1d),
        _aten.conv2d.default: _conv(nn.Conv2d),
        _aten.conv2d.padding: _conv(nn.Conv2d),
        _aten.conv3d.default: _conv(nn.Conv3d),
        _aten.conv3d.padding: _conv(nn.Conv3d),
        _aten.conv_transpose1d.default: _conv(nn.ConvTranspose1d),
        _aten.conv_transpose2d.input: _conv(nn.ConvTranspose2d),
        _aten.conv_transpose3d.input: _conv(nn.ConvTranspose3d),
        _aten.linear.default: _Rule(_linear, _AFFINE, ()),
        _aten._native_batch_norm_legit_no_training.default: _Rule(
            _batch_norm, _STATISTICS, ("momentum", "eps")
        ),
    }
)
