"""The network inside an ultralytics detector, and a detector around another network."""

import copy
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...errors import RepqError
from ..prediction_maps import Channels, PredictionMaps

SUFFIXES = (".pt", ".yaml", ".yml")
MODELS = ("DetectionModel", "SegmentationModel", "PoseModel", "OBBModel", "RTDETRDetectionModel")


def open_model(path: Path) -> Any:
    """The `YOLO` or `RTDETR` of a file with one of the `SUFFIXES`.

    A checkpoint is a pickle, which may run anything: open only files that you trust.

    Raises:
        RepqError: ultralytics is not installed, or cannot read the file.
    """
    package = installed_package()
    if path.suffix not in SUFFIXES:
        raise RepqError(f"expected a {' or '.join(SUFFIXES)} file, got {str(path)!r}.")
    try:
        return package.YOLO(path)
    except Exception as error:  # Whatever pickle, torch.load and its parser raise.
        raise RepqError(f"ultralytics cannot open {str(path)!r}: {error}") from error


def installed_package() -> Any:
    """The module `ultralytics`.

    Raises:
        RepqError: It is not installed.
    """
    try:
        import ultralytics
    except ImportError as error:
        raise RepqError(
            "ultralytics models need the ultralytics package: pip install ultralytics."
        ) from error
    return ultralytics


def require_detector(yolo: Any) -> None:
    """Check that `yolo` is a detector whose layers are torch modules.

    Raises:
        RepqError: The package is missing, or it is something else, which the message names.
    """
    package = installed_package()
    if not isinstance(yolo, package.YOLO | package.RTDETR):
        raise RepqError(f"expected an ultralytics YOLO or RTDETR, got a {type(yolo).__name__}.")
    if not isinstance(yolo.model, nn.Module):
        raise RepqError(f"expected a .pt or .yaml model, got the exported {str(yolo.model)!r}.")
    name = type(yolo.model).__name__
    if name not in MODELS:
        raise RepqError(
            f"{name} (task {yolo.task!r}) is not supported, only {', '.join(MODELS)}; "
            "repq_fx.quantize takes any network by itself."
        )
    if any(isinstance(module, PredictionMaps) for module in yolo.model.modules()):
        raise RepqError("this model was merged or quantized already; start from the original.")


class Network(nn.Module):
    """All layers of a detector but the decoding, under their original names.

    Of a plain detection head, the convolutions belong to it, and it returns the maps of boxes and
    classes for one level after the other. Other heads (masks, keypoints, angles, RT-DETR's decoder)
    remain outside, and it returns what they read.
    """

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.model = copy.deepcopy(detector.model).float().eval()
        self.saved = frozenset(detector.save)
        head = self.model[-1]
        self.inputs = tuple(head.f)
        if _has_plain_head(detector):
            head.fuse()  # Of two heads, one for training, the one that is not used.
            self.branches = tuple(_branches(head).values())
        else:
            self.model[-1] = nn.Identity()
            self.branches = ()
        self.eval()

    @property
    def per_level(self) -> int:
        """How many maps come from each level."""
        return max(len(self.branches), 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map ``[N, 3, H, W]`` to maps ``[N, C, h, w]``."""
        value: Any = image
        values: list[Any] = []
        for index, layer in enumerate(list(self.model)[:-1]):
            if isinstance(layer.f, list):
                value = [value if source == -1 else values[source] for source in layer.f]
            elif layer.f != -1:
                value = values[layer.f]
            value = layer(value)
            values.append(value if index in self.saved else None)
        maps = [values[source] for source in self.inputs]
        if not self.branches:
            return tuple(maps)
        return tuple(
            branch[level](features)
            for level, features in enumerate(maps)
            for branch in self.branches
        )


def put_back(yolo: Any, maps: PredictionMaps) -> Any:
    """A new `YOLO` (or `RTDETR`) like `yolo`, with `maps` for its layers.

    Its detector is the repository's own: the maps, one layer that picks each level, and the head,
    whose convolutions have become slices of the maps where these are predictions.
    """
    detector = copy.deepcopy(yolo.model).float().eval()
    head = detector.model[-1]
    if _has_plain_head(detector):
        head.fuse()
        sizes = {"box_head": 4 * head.reg_max, "cls_head": head.nc}
        start = 0
        for name, branch in _branches(head).items():
            for level in range(head.nl):
                branch[level] = Channels(start, start + sizes[name])
            start += sizes[name]
    levels = [_Level(index) for index in range(len(head.f))]
    layers: list[Any] = [maps, *levels, head]
    for index, layer in enumerate(layers):
        # What the repository's parser notes on each layer: place, sources, name, parameters.
        layer.i, layer.f, layer.type = index, 0, type(layer).__name__
        layer.np = sum(parameter.numel() for parameter in layer.parameters())
    layers[0].f, head.f = -1, list(range(1, len(levels) + 1))
    detector.model = nn.Sequential(*layers)
    detector.save = list(range(len(levels) + 1))
    result = copy.copy(yolo)
    result._modules = dict(yolo._modules)  # copy.copy shares it.
    result.model = detector
    result.overrides = dict(yolo.overrides)
    result.callbacks = {event: list(found) for event, found in yolo.callbacks.items()}
    result.predictor = result.trainer = result.metrics = None
    return result


class _Level(nn.Module):
    """One map out of the list."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[self.index]


def _has_plain_head(detector: Any) -> bool:
    from ultralytics.nn.modules.head import Detect, v10Detect

    return type(detector.model[-1]) in (Detect, v10Detect)


def _branches(head: Any) -> dict[str, Any]:
    """Lists of layers, one for each level, by the repository's name."""
    branches: dict[str, Any] = head.one2one if head.end2end else head.one2many
    return branches
