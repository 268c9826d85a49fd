"""Recurrent layers of a file: what they keep about their parameters, and whether it is true."""

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from .checks import checked

_MODES: Mapping[type[nn.Module], tuple[str, ...]] = MappingProxyType(
    {nn.LSTM: ("LSTM",), nn.GRU: ("GRU",), nn.RNN: ("RNN_TANH", "RNN_RELU")}
)
_SIZES = ("input_size", "hidden_size", "num_layers", "proj_size")
_ANSWERS = ("bias", "batch_first", "bidirectional")

OWN_ATTRIBUTES = frozenset(
    {"_flat_weights", "_flat_weight_refs", "_flat_weights_names", "_all_weights"}
)
"""What such a layer keeps besides its settings: its parameters once more, in their order."""


def list_parameters(layer: nn.RNNBase, name: str) -> None:
    """Give a layer of a file its `OWN_ATTRIBUTES`, in place.

    The kernels of torch read as much memory as the settings ask for, whatever the parameters are.

    Raises:
        ValueError: The settings are none of such a layer, or ask for other parameters.
    """
    expected = _layer_of_settings(layer, name)
    parameters = dict(layer.named_parameters())
    shapes = {key: parameter.shape for key, parameter in expected.named_parameters()}
    is_as_asked = {key: parameter.shape for key, parameter in parameters.items()} == shapes
    if not is_as_asked or len({parameter.dtype for parameter in parameters.values()}) != 1:
        raise ValueError(f"layer {name!r} has other parameters than its settings ask for.")
    layer._flat_weights_names = expected._flat_weights_names
    layer._all_weights = expected._all_weights
    layer._init_flat_weights()


def _layer_of_settings(layer: nn.RNNBase, name: str) -> nn.RNNBase:
    """One that torch makes, without values."""
    settings = vars(layer)
    for kind, keys in ((int, _SIZES), (bool, _ANSWERS), (str, ("mode",))):
        for key in keys:
            checked(settings.get(key), kind, f"{key!r} of layer {name!r}")
    # Before a list of so many layers is made.
    is_possible = 0 < layer.num_layers <= len(layer._parameters)
    if not is_possible or layer.mode not in _MODES.get(type(layer), ()):
        raise ValueError(f"layer {name!r} has settings that no {type(layer).__name__} has.")
    asked = {key: settings[key] for key in (*_SIZES, *_ANSWERS)}
    try:
        return nn.RNNBase(layer.mode, **asked, device="meta")
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"layer {name!r} cannot be made: {str(error).splitlines()[0]}") from error
