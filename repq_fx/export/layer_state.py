"""One layer of a graph as plain data and tensors, and back."""

import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from ..backend import ReferenceConv2d, ReferenceLinear
from ..errors import FileFormatError
from ..lowering.int8 import instructions as int8
from ..passes.gathering.elementwise_function import ScaledActivation
from .checks import check_word, checked, field, shortened
from .json_values import decode_attribute, encode_attribute
from .recurrent_layers import OWN_ATTRIBUTES, list_parameters

MODULE_INTERNALS = frozenset(nn.Module().__dict__) - {"training"}
"""What nn.Module keeps about itself; `training` is the one entry that is plain data."""


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
    # What others noted on a layer, such as its place in a list, no code of its class reads.
    known = _attribute_names()[type(layer)] - MODULE_INTERNALS - OWN_ATTRIBUTES
    plain = {
        key: _encoded(value, f"{key!r} of the {type_name} {name!r}")
        for key, value in layer.__dict__.items()
        if key in known
    }
    return {
        "type": type_name,
        "attributes": plain,
        "parameters": {key: value is not None for key, value in layer._parameters.items()},
        "buffers": {key: value is not None for key, value in layer._buffers.items()},
        "layers": {key: layer_state(inner, f"{name}.{key}") for key, inner in _layers_in(layer)},
    }


def _encoded(value: Any, place: str) -> Any:
    try:
        return encode_attribute(value)
    except FileFormatError as error:
        raise FileFormatError(
            f"save: {place} is a {type(value).__name__}, which cannot be stored in a model file."
        ) from error


def layer_tensors(layer: nn.Module, name: str) -> dict[str, Tensor]:
    """Parameters and buffers of the layer and those inside, under their qualified names."""
    own = {**layer._parameters, **layer._buffers}
    tensors = {f"{name}.{key}": value for key, value in own.items() if value is not None}
    for key, inner in _layers_in(layer):
        tensors |= layer_tensors(inner, f"{name}.{key}")
    return tensors


def layer_from_state(state: Any, name: str, tensors: dict[str, Tensor]) -> nn.Module:
    """Rebuild a layer without running its constructor, with the attributes that its type has.

    Raises:
        ValueError: The type is unknown, an attribute would replace what every module keeps about
            itself, or a tensor is missing.
    """
    type_name = field(state, "type", str)
    layer_type = _layer_types().get(type_name)
    if layer_type is None:
        raise ValueError(f"layer {name!r} has the unknown type {shortened(type_name)}.")
    layer = layer_type.__new__(layer_type)
    nn.Module.__init__(layer)
    for key, value in field(state, "attributes", dict).items():
        if key in MODULE_INTERNALS or key.startswith("__"):
            raise ValueError(f"layer {name!r} sets the reserved attribute {shortened(key)}.")
        if key in _attribute_names()[layer_type]:
            layer.__dict__[key] = decode_attribute(value)
    checked(layer.training, bool, f"'training' of layer {name!r}")
    for key, present in field(state, "parameters", dict).items():
        path = f"{name}.{check_word(key, 'the tensor')}"
        tensor = tensor_of(path, tensors) if present else None
        parameter = None if tensor is None else nn.Parameter(tensor, requires_grad=False)
        layer.register_parameter(key, parameter)
    for key, present in field(state, "buffers", dict).items():
        path = f"{name}.{check_word(key, 'the tensor')}"
        layer.register_buffer(key, tensor_of(path, tensors) if present else None)
    for key, inner in state.get("layers", {}).items():
        path = f"{name}.{check_word(key, 'the layer')}"
        layer.add_module(key, layer_from_state(inner, path, tensors))
    if isinstance(layer, nn.RNNBase):
        list_parameters(layer, name)
    return layer


def tensor_of(name: str, tensors: dict[str, Tensor]) -> Tensor:
    """The tensor of that name.

    Raises:
        ValueError: There is none.
    """
    if name not in tensors:
        raise ValueError(f"the tensor {shortened(name)} is missing.")
    return tensors[name]


@cache
def _attribute_names() -> dict[type[nn.Module], frozenset[str]]:
    """What the code of a layer's class, and of those above it, declares, reads or assigns.

    Its methods and properties are not among them, for no value may stand in their place.
    """
    return {
        layer: frozenset(name for name in _names_in(layer) if not _is_code(layer, name))
        for layer in _layer_types().values()
    }


def _names_in(layer_type: type[nn.Module]) -> Iterator[str]:
    yield "training"
    for each in layer_type.__mro__[: layer_type.__mro__.index(nn.Module)]:
        yield from inspect.get_annotations(each)
        for member in vars(each).values():
            code = getattr(member, "__code__", None)
            yield from () if code is None else code.co_names


def _is_code(layer_type: type[nn.Module], name: str) -> bool:
    """Whether the class has a method or property of that name."""
    found = inspect.getattr_static(layer_type, name, None)
    return callable(found) or hasattr(type(found), "__get__")


def _layers_in(layer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((key, inner) for key, inner in layer._modules.items() if inner is not None)


@cache
def _layer_types() -> dict[str, type[nn.Module]]:
    """The layers that a file may hold, by their names in it."""
    torch_layers = {name: value for name, value in vars(nn).items() if _is_type(value, nn.Module)}
    del torch_layers["DataParallel"]  # A place to run on, no layer.
    instructions = {
        f"int8.{name}": value
        for name, value in vars(int8).items()
        if _is_type(value, int8.Instruction)
    }
    # Of an attention the last layer is of a class that `torch.nn` does not name.
    others = (ReferenceConv2d, ReferenceLinear, ScaledActivation, NonDynamicallyQuantizableLinear)
    return torch_layers | {layer.__name__: layer for layer in others} | instructions


@cache
def _layer_names() -> dict[type[nn.Module], str]:
    return {layer: name for name, layer in _layer_types().items()}


def _is_type(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)
