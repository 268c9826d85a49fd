"""One layer of a graph as plain data and tensors, and back."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from ..backend import ReferenceConv2d, ReferenceLinear, int8
from ..errors import FileFormatError
from .json_values import decode, encode

# What nn.Module keeps about itself; `training` is the one entry that is plain data.
_MODULE_INTERNALS = frozenset(nn.Module().__dict__) - {"training"}


def layer_state(layer: nn.Module, name: str) -> dict[str, Any]:
    """Type, plain attributes and tensor names of `layer` and of the layers inside it, as JSON.

    Raises:
        FileFormatError: A layer is neither torch's nor ours, or has an attribute that is not plain
            data.
    """
    type_name = _layer_names().get(type(layer))
    if type_name is None:
        raise FileFormatError(
            f"save: layer {name!r} is a {type(layer).__name__}; only layers of torch.nn and "
            "repq_fx can be stored in a model file."
        )
    plain = {
        key: encode(value) for key, value in layer.__dict__.items() if key not in _MODULE_INTERNALS
    }
    return {
        "type": type_name,
        "attributes": plain,
        "parameters": {key: value is not None for key, value in layer._parameters.items()},
        "buffers": {key: value is not None for key, value in layer._buffers.items()},
        "layers": {key: layer_state(inner, f"{name}.{key}") for key, inner in _layers_in(layer)},
    }


def layer_tensors(layer: nn.Module, name: str) -> dict[str, Tensor]:
    """Parameters and buffers of the layer and those inside, under their qualified names."""
    own = {**layer._parameters, **layer._buffers}
    tensors = {f"{name}.{key}": value for key, value in own.items() if value is not None}
    for key, inner in _layers_in(layer):
        tensors |= layer_tensors(inner, f"{name}.{key}")
    return tensors


def layer_from_state(state: dict[str, Any], name: str, tensors: dict[str, Tensor]) -> nn.Module:
    """Rebuild a layer without running its constructor.

    Raises:
        ValueError: The type is unknown or an attribute would replace a module internal.
        KeyError: A tensor is missing.
    """
    layer_type = _layer_types().get(state["type"])
    if layer_type is None:
        raise ValueError(f"layer {name!r} has the unknown type {state['type']!r}.")
    layer = layer_type.__new__(layer_type)
    nn.Module.__init__(layer)
    for key, value in state["attributes"].items():
        if key in _MODULE_INTERNALS or key.startswith("__"):
            raise ValueError(f"layer {name!r} sets the reserved attribute {key!r}.")
        layer.__dict__[key] = decode(value, {})
    for key, present in state["parameters"].items():
        tensor = tensors[f"{name}.{key}"] if present else None
        parameter = None if tensor is None else nn.Parameter(tensor, requires_grad=False)
        layer.register_parameter(key, parameter)
    for key, present in state["buffers"].items():
        layer.register_buffer(key, tensors[f"{name}.{key}"] if present else None)
    for key, inner in state.get("layers", {}).items():
        layer.add_module(key, layer_from_state(inner, f"{name}.{key}", tensors))
    return layer


def _layers_in(layer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((key, inner) for key, inner in layer._modules.items() if inner is not None)


@cache
def _layer_types() -> dict[str, type[nn.Module]]:
    """The layers that a file may hold, by their names in it."""
    torch_layers = {name: value for name, value in vars(nn).items() if _is_type(value, nn.Module)}
    instructions = {
        f"int8.{name}": value
        for name, value in vars(int8).items()
        if _is_type(value, int8.Instruction)
    }
    # Of an attention the last layer is of a class that `torch.nn` does not name.
    others = (ReferenceConv2d, ReferenceLinear, NonDynamicallyQuantizableLinear)
    return torch_layers | {layer.__name__: layer for layer in others} | instructions


@cache
def _layer_names() -> dict[type[nn.Module], str]:
    return {layer: name for name, layer in _layer_types().items()}


def _is_type(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)
