"""A quantized detector in a file: the graph, and what builds ultralytics' head around it."""

import importlib
import os
from typing import Any

from torch.fx import GraphModule

from ...errors import FileFormatError, RepqError
from ...export import Surroundings, write_model
from ..prediction_maps import PredictionMaps
from .detector import MODELS, installed_package, put_back

KIND = "ultralytics"
_ANY_MODEL = {"YOLO": "yolov8n.yaml", "RTDETR": "rtdetr-l.yaml"}
"""Of each interface, what it is built with before it gets the model of the file."""
_OVERRIDES = ("imgsz", "task", "data", "single_cls")


def is_quantized(model: Any) -> bool:
    """Whether this is a model that `quantize` or `merge` returned."""
    layers: Any = getattr(getattr(model, "model", None), "model", None)
    return layers is not None and isinstance(layers[0], PredictionMaps)


def save(yolo: Any, path: str | os.PathLike[str]) -> None:
    """Write what `quantize` returned; see `repq_fx.save`."""
    detector = yolo.model
    maps, head = detector.model[0], detector.model[-1]
    settings = {
        "interface": type(yolo).__name__,
        "model": type(detector).__name__,
        # The activation is an expression that ultralytics evaluates, and part of the graph anyway.
        "config": {k: v for k, v in detector.yaml.items() if k not in ("activation", "yaml_file")},
        "end2end": bool(detector.end2end),
        "names": list(detector.names.items()),
        "overrides": {k: yolo.overrides[k] for k in _OVERRIDES if k in yolo.overrides},
        "per_level": maps.per_level,
        "image_size": maps.image_size,
    }
    write_model(maps.graph, path, Surroundings(KIND, settings, head.state_dict()))


def restore(graph: GraphModule, surroundings: Surroundings) -> Any:
    """The model that `save` wrote.

    Raises:
        RepqError: ultralytics is not installed, or is another version whose head does not fit.
        FileFormatError: The file names a class that detectors do not have.
    """
    package = installed_package()
    tasks = importlib.import_module("ultralytics.nn.tasks")
    settings = surroundings.settings
    interface, model, config = settings["interface"], settings["model"], settings["config"]
    if interface not in _ANY_MODEL or model not in MODELS or "activation" in config:
        raise FileFormatError(f"load: {interface} of a {model} is not a model that was saved.")
    detector = getattr(tasks, model)(config, ch=config["channels"], verbose=False).eval()
    detector.end2end = settings["end2end"]
    detector.names = {int(index): name for index, name in settings["names"]}
    detector.task = settings["overrides"]["task"]
    detector.args = settings["overrides"]
    yolo = getattr(package, interface)(_ANY_MODEL[interface])
    yolo.model, yolo.task, yolo.overrides = detector, detector.task, dict(settings["overrides"])
    size = settings["image_size"]
    maps = PredictionMaps(graph, settings["per_level"], size and tuple(size))
    result = put_back(yolo, maps)
    try:
        result.model.model[-1].load_state_dict(surroundings.tensors)
    except RuntimeError as error:
        raise RepqError(
            f"the head in this file does not fit ultralytics {package.__version__}: {error}"
        ) from error
    return result
