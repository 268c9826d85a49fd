"""What a file may tell ultralytics: its parser calls whatever a configuration names."""

import importlib
import math
import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from torch import nn

# Arguments of layers that are words; the parser looks these up or evaluates them as literals.
_WORDS = frozenset(
    ("nc", "kpt_shape", "reg_max", "None", "True", "False", "nearest", "bilinear", "bicubic")
)
# Loads weights by a name, from the network.
_EXCLUDED = frozenset(("TorchVision", "Index"))
_KEYS = ("nc", "scales", "scale", "backbone", "head", "channels", "kpt_shape", "end2end", "reg_max",
         "depth_multiple", "width_multiple")  # fmt: skip
_TASKS = frozenset(("detect", "segment", "pose", "obb"))
# A file on this machine: of an address, ultralytics would load and run what it finds there.
_DATA_FILE = re.compile(r"([A-Za-z]:)?[^:]+\.ya?ml")
_LARGEST = 1 << 16
_MOST_LAYERS = 1000
_MOST_REPEATS = 100


def checked_config(config: Any) -> dict[str, Any]:
    """The entries of a model's configuration that build its layers.

    Raises:
        ValueError: One of them is not of the kind that the models of the package have.
    """
    if not isinstance(config, dict) or "activation" in config:
        # The activation is an expression that ultralytics evaluates.
        raise ValueError("the configuration of the detector is malformed.")
    found = {key: config[key] for key in _KEYS if key in config}
    layers = [*_list(found.pop("backbone", None)), *_list(found.pop("head", None))]
    if not 0 < len(layers) <= _MOST_LAYERS:
        raise ValueError(f"the detector has {len(layers)} layers.")
    for layer in layers:
        _check_layer(layer)
    scales = found.pop("scales", None) or {}
    scale = found.pop("scale", None)
    if not isinstance(scales, dict) or not (not scale or isinstance(scale, str)):
        raise ValueError(f"{scale!r} is no scale of the detector.")
    for value in (*found.values(), *scales.values()):
        _check_plain(value)
    return {key: config[key] for key in _KEYS if key in config}


def checked_overrides(overrides: Any) -> dict[str, Any]:
    """The settings of the interface.

    Raises:
        ValueError: There are others, or values that these settings do not have.
    """
    if not isinstance(overrides, dict) or overrides.get("task") not in _TASKS:
        raise ValueError("the task of the detector is not known.")
    for key, value in overrides.items():
        if key == "imgsz":
            sizes = value if isinstance(value, list | tuple) else [value]
            valid = 0 < len(sizes) <= 2 and all(type(size) is int for size in sizes)
        elif key == "data":
            valid = is_data_file(value)
        else:
            valid = key == "task" or (key == "single_cls" and isinstance(value, bool))
        if not valid:
            raise ValueError(f"the detector cannot have {key} = {value!r}.")
    return dict(overrides)


def checked_names(pairs: Any) -> dict[int, str]:
    """The classes; their names become folders for what is cut out of images.

    Raises:
        ValueError: They are no pairs of a number and a name, or a name leads out of its folder.
    """
    names: dict[int, str] = {}
    for pair in _list(pairs):
        index, name = pair if isinstance(pair, list | tuple) and len(pair) == 2 else (None, None)
        if type(index) is not int or not isinstance(name, str):
            raise ValueError(f"{pair!r} is no class of the detector.")
        for path in (PurePosixPath(name), PureWindowsPath(name)):
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{name!r} is no name of a class.")
        names[index] = name
    return names


def is_data_file(value: Any) -> bool:
    """Whether this is the YAML file of a data set, by its path."""
    return isinstance(value, str) and _DATA_FILE.fullmatch(value) is not None


def _check_layer(layer: Any) -> None:
    if not isinstance(layer, list | tuple) or len(layer) != 4:
        raise ValueError(f"{layer!r} is no layer of a detector.")
    sources, repeats, name, args = layer
    for source in sources if isinstance(sources, list | tuple) else [sources]:
        if type(source) is not int:
            raise ValueError(f"the layer {layer!r} reads {source!r}.")
    if type(repeats) is not int or not 1 <= repeats <= _MOST_REPEATS:
        raise ValueError(f"the layer {layer!r} is repeated {repeats!r} times.")
    if not isinstance(name, str) or not _is_layer_type(name):
        raise ValueError(f"the detector cannot have a layer {name!r}.")
    for argument in _list(args):
        _check_plain(argument)


def _is_layer_type(name: str) -> bool:
    """Whether the parser finds one of the package's own layers, or torch's, under a name."""
    if name.startswith("nn."):
        found: Any = vars(nn).get(name.removeprefix("nn."))
        return _is_module(found) and found.__module__.startswith("torch.nn.modules.")
    layers, parser = (
        vars(importlib.import_module(f"ultralytics.nn.{module}")) for module in ("modules", "tasks")
    )
    found = layers.get(name)
    return name not in _EXCLUDED and _is_module(found) and parser.get(name) is found


def _is_module(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


def _check_plain(value: Any) -> None:
    """A number of a usual size, a known word, or a list of numbers."""
    for each in value if isinstance(value, list | tuple) else [value]:
        is_number = type(each) in (int, float) and math.isfinite(each) and abs(each) <= _LARGEST
        is_word = isinstance(each, str) and each in _WORDS
        if not (each is None or isinstance(each, bool) or is_number or is_word):
            raise ValueError(f"the detector cannot have a layer with {each!r}.")


def _list(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{value!r} in the settings of the detector is no list.")
    return value
