"""One layer of a graph as plain data and tensors, and back."""

from functools import cache
from typing import Any

from torch import Tensor, nn

from ..backend import ReferenceConv2d, ReferenceLinear, int8
from ..errors import FileFormatError
from .json_values import decode, encode

# What nn.Module keeps about itself; `training` is the one entry that is plain data.
_MODULE_INTERNALS = frozenset(nn.Module().__dict__) - {"training"}


def layer_state(layer: nn.Module, name: str) -> dict[str, Any]:
    """Type, plain attributes and tensor names of `layer`, as JSON.

    Raises:
        FileFormatError: The layer is neither torch's nor ours, has layers inside, or an attribute
            that is not plain data.
    """
    type_name = _layer_names().get(type(layer))
    if type_name is None or layer._modules:
        raise FileFormatError(
            f"save: layer {name!r} is a {type(layer).__name__}; only leaf layers of torch.nn and "
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
    }


def layer_tensors(layer: nn.Module, name: str) -> dict[str, Tensor]:
    """The layer's parameters and buffers under their qualified names."""
    own = {**layer._parameters, **layer._buffers}
    return {f"{name}.{key}": value for key, value in own.items() if value is not None}


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
    return layer


@cache
def _layer_types() -> dict[str, type[nn.Module]]:
    """The layers that a file may hold, by their names in it."""
    torch_layers = {name: value for name, value in vars(nn).items() if _is_type(value, nn.Module)}
    instructions = {
        f"int8.{name}": value
        for name, value in vars(int8).items()
        if _is_type(value, int8.Instruction)
    }
    references = {layer.__name__: layer for layer in (ReferenceConv2d, ReferenceLinear)}
    return torch_layers | references | instructions


@cache
def _layer_names() -> dict[type[nn.Module], str]:
    return {layer: name for name, layer in _layer_types().items()}


def _is_type(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)
