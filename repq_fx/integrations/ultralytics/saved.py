"""A quantized detector in a file: the graph, and what builds ultralytics' head around it."""

import importlib
import os
from typing import Any

from torch.fx import GraphModule

from ...errors import FileFormatError, RepqError
from ...export import Surroundings, write_model
from ..prediction_maps import PredictionMaps
from .detector import MODELS, installed_package, put_back
from .saved_settings import checked_config, checked_names, checked_overrides, is_data_file

KIND = "ultralytics"
_ANY_MODEL = {"YOLO": "yolov8n.yaml", "RTDETR": "rtdetr-l.yaml"}
"""Of each interface, what it is built with before it gets the model of the file."""
_OVERRIDES = ("imgsz", "task", "data", "single_cls")


def is_quantized(model: Any) -> bool:
    """Whether this is a model that `quantize` or `merge` returned."""
    layers: Any = getattr(getattr(model, "model", None), "model", None)
    return layers is not None and isinstance(layers[0], PredictionMaps)


def save(yolo: Any, path: str | os.PathLike[str]) -> None:
    """Write what `quantize` returned; see `repq_fx.save`.

    Raises:
        FileFormatError: It has a layer or setting that a file may not hold.
    """
    detector = yolo.model
    maps, head = detector.model[0], detector.model[-1]
    names, overrides = detector.names, yolo.overrides
    overrides = {key: overrides[key] for key in _OVERRIDES if key in overrides}
    if not is_data_file(overrides.get("data")):  # An address, or none: it has to be named again.
        overrides.pop("data", None)
    # The activation is an expression that ultralytics evaluates, and part of the graph anyway.
    config = {key: value for key, value in detector.yaml.items() if key != "activation"}
    try:
        config, overrides = checked_config(config), checked_overrides(overrides)
        checked_names(list(names.items()))
    except ValueError as error:
        raise FileFormatError(f"save: {error}") from error
    settings = {
        "interface": type(yolo).__name__,
        "model": type(detector).__name__,
        "config": config,
        "end2end": bool(detector.end2end),
        "names": list(names.items()),
        "overrides": overrides,
        "per_level": maps.per_level,
        "image_size": maps.image_size,
    }
    write_model(maps.graph, path, Surroundings(KIND, settings, head.state_dict()))


def restore(graph: GraphModule, surroundings: Surroundings) -> Any:
    """The model that `save` wrote.

    Raises:
        RepqError: ultralytics is not installed, or is another version whose head does not fit.
        FileFormatError: The file names a class that detectors do not have.
        ValueError: It holds a layer or setting that they do not have.
    """
    package = installed_package()
    tasks = importlib.import_module("ultralytics.nn.tasks")
    settings = surroundings.settings
    interface, model, config = settings["interface"], settings["model"], settings["config"]
    if interface not in _ANY_MODEL or model not in MODELS or "activation" in config:
        raise FileFormatError(f"load: {interface} of a {model} is not a model that was saved.")
    config, overrides = checked_config(config), checked_overrides(settings["overrides"])
    names, maps = checked_names(settings["names"]), _maps(graph, settings)
    detector = getattr(tasks, model)(config, ch=config["channels"], verbose=False).eval()
    detector.end2end = bool(settings["end2end"])
    detector.names, detector.task, detector.args = names, overrides["task"], overrides
    yolo = getattr(package, interface)(_ANY_MODEL[interface])
    yolo.model, yolo.task, yolo.overrides = detector, detector.task, dict(overrides)
    result = put_back(yolo, maps)
    try:
        result.model.model[-1].load_state_dict(surroundings.tensors)
    except RuntimeError as error:
        raise RepqError(
            f"the head in this file does not fit ultralytics {package.__version__}: {error}"
        ) from error
    return result


def _maps(graph: GraphModule, settings: dict[str, Any]) -> PredictionMaps:
    per_level, size = settings["per_level"], settings["image_size"]
    numbers = [per_level, *(size or ())]
    if len(numbers) not in (1, 3) or not all(type(n) is int and n > 0 for n in numbers):
        raise ValueError(f"maps of {per_level!r} parts for images of {size!r} are malformed.")
    return PredictionMaps(graph, per_level, size and tuple(size))
