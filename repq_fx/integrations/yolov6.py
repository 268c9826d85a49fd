"""YOLOv6: `quantize` returns the repository's own `Model`, whose network runs in INT8."""

import copy
import os
from functools import partial
from typing import Any

from torch import Tensor, nn

from .. import api
from ..errors import RepqError
from ..lowering import Backend
from ..quant import Scheme
from ..reconstruct import Reconstruction
from .pickled_detector import (
    Data,
    Repository,
    calibration_data,
    is_rebuilt,
    merged_maps,
    quantized_maps,
    read_checkpoint,
    write_checkpoint,
)
from .prediction_maps import Channels, PredictionMaps, require_side

REPOSITORY = Repository("yolov6detect", letterbox="data.data_augment", maps_per_level=2)
_DEFAULT_SCHEME = Scheme()
_SHARED_PARTS = ("stems", "cls_convs", "reg_convs")
# What the heads read in evaluation. The first pair counts that a head has; its other predictions
# are for training.
_PREDICTIONS = (
    ("cls_preds_af", "reg_preds_af"),
    ("cls_preds", "reg_preds_lrtb"),
    ("cls_preds", "reg_preds"),
)
_TRAINING_PARTS = ("cls_preds_ab", "reg_preds_ab")
_KNOWN_PARTS = {
    "proj_conv",
    *_SHARED_PARTS,
    *_TRAINING_PARTS,
    *(n for p in _PREDICTIONS for n in p),
}


def merge(model: Any, *, imgsz: int = 640) -> Any:
    """A float model like `model`, with the branches of every block merged; `model` is not changed.

    Args:
        model: A YOLOv6 ``Model``, or the path of a checkpoint. Reading one executes what is in it:
            use only files that you trust.
        imgsz: Side of the images to trace with.

    Returns:
        A model of the same class, which maps ``[N, 3, H, W]`` to ``[N, boxes, 5 + classes]`` as
        `model` does, for all sizes. Beside these it returns the maps of the predictions instead of
        the neck's features.

    Raises:
        RepqError: It is something else or was merged before; a package is missing; `imgsz` is not
            a multiple of the stride.
        TraceError: See `repq_fx.trace`.
    """
    detector = _detector(model)
    stride = int(max(detector.stride))
    require_side(imgsz, stride)
    return _put_back(detector, merged_maps(Network(detector), REPOSITORY, stride, imgsz))


def quantize(  # noqa: PLR0913  (each setting by name)
    model: Any,
    data: Data,
    *,
    scheme: Scheme | str = _DEFAULT_SCHEME,
    reconstruction: Reconstruction | None = None,
    imgsz: int = 640,
    images: int = 128,
    batch: int = 16,
    backend: str | Backend = Backend.INT8,
    progress: bool = True,
) -> Any:
    """An INT8 model like `model`, which is not changed.

    Backbone, neck and the convolutions of the head are quantized; the decoding (distances, anchors)
    is the repository's own, in float. Heads for training only are left out.

    Args:
        model: A YOLOv6 ``Model``, or the path of a checkpoint. Reading one executes what is in it:
            use only files that you trust.
        data: A folder of images, which the repository's own function letterboxes; or a float tensor
            ``[N, 3, H, W]`` in RGB between 0 and 1, or an iterable of batches like that.
        scheme: Bits, weight quantizer and range rule, or the name of a preset.
        reconstruction: Learn rounding, ranges and biases; see `repq_fx.reconstruct`.
        imgsz: Side of the images of a folder. The result runs for all sizes.
        images: The first so many of a folder calibrate.
        batch: Images of a folder in one forward pass.
        backend: As for `repq_fx.convert`.
        progress: Show a progress bar.

    Returns:
        A model of the same class; see `merge`. `save_checkpoint` writes it to a file.

    Raises:
        RepqError: As for `merge`; or the folder is missing or empty, or an image is unreadable.
        CalibrationError: The images do not fit the network; see also `repq_fx.calibrate`.

    Example:
        >>> from repq_fx.integrations import yolov6  # doctest: +SKIP
        >>> int8 = yolov6.quantize("yolov6n.pt", "coco/images/train2017")  # doctest: +SKIP
        >>> yolov6.save_checkpoint(int8, "yolov6n_int8.pt")  # doctest: +SKIP
    """
    detector = _detector(model)
    stride = int(max(detector.stride))
    require_side(imgsz, stride)
    calibration = calibration_data(
        data, detector, REPOSITORY, images=images, side=imgsz, batch=batch
    )
    quantized = partial(
        api.quantize, scheme=scheme, reconstruction=reconstruction, backend=backend,
        progress=progress,
    )  # fmt: skip
    maps = quantized_maps(Network(detector), calibration, REPOSITORY, stride, quantized)
    return _put_back(detector, maps)


def save_checkpoint(model: Any, path: str | os.PathLike[str]) -> None:
    """Write what `quantize` or `merge` returned as a checkpoint of the repository.

    Its ``tools/infer.py`` and ``tools/eval.py`` take the file as ``--weights`` where repq_fx is
    installed. From torch 2.6 on they need ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1`` in the environment
    for every checkpoint, this one or their own.

    Raises:
        RepqError: `model` is something else.
        OSError: `path` is not writable.
    """
    write_checkpoint(model, path)


class Network(nn.Module):
    """All layers of a detector but the decoding, under their original names."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(detector.backbone)
        self.neck = copy.deepcopy(detector.neck)
        self.names = (*_SHARED_PARTS, *_predictions(detector.detect))
        self.detect = nn.ModuleDict(
            {name: copy.deepcopy(getattr(detector.detect, name)) for name in self.names}
        )
        self.float().eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map ``[N, 3, H, W]`` to class and box maps, level after level."""
        maps: list[Tensor] = []
        levels = zip(*(self.detect[name] for name in self.names), strict=True)
        features = self.neck(self.backbone(image))
        for feature, parts in zip(features, levels, strict=True):
            stem, class_layer, box_layer, class_prediction, box_prediction = parts
            shared = stem(feature)
            maps.append(class_prediction(class_layer(shared)))
            maps.append(box_prediction(box_layer(shared)))
        return tuple(maps)


def _put_back(model: Any, maps: PredictionMaps) -> Any:
    """A copy of `model` with `maps` for its layers and nothing left to do but the decoding."""
    detector = copy.deepcopy(model).float().eval().requires_grad_(False)
    head = detector.detect
    class_name, box_name = _predictions(head)
    sizes = [
        (classes.out_channels, boxes.out_channels)
        for classes, boxes in zip(getattr(head, class_name), getattr(head, box_name), strict=True)
    ]
    for name in [name for name in head._modules if name != "proj_conv"]:
        delattr(head, name)
    for name in ("stems", class_name, box_name):
        setattr(head, name, nn.ModuleList(nn.Identity() for _ in sizes))
    head.cls_convs = nn.ModuleList(Channels(0, classes) for classes, _ in sizes)
    head.reg_convs = nn.ModuleList(Channels(classes, classes + boxes) for classes, boxes in sizes)
    detector.backbone, detector.neck = maps, nn.Identity()
    return detector


def _detector(model: Any) -> Any:
    """Check that `model`, or what its file holds, is a detector to start from."""
    if isinstance(model, str | os.PathLike):
        model = read_checkpoint(model, REPOSITORY)
    parts = all(isinstance(getattr(model, n, None), nn.Module) for n in ("backbone", "neck"))
    head: Any = getattr(model, "detect", None)
    if not parts or type(model).__name__ != "Model" or type(head).__name__ != "Detect":
        raise RepqError(
            f"expected a YOLOv6 Model with a Detect head or the path of a checkpoint of one, got a "
            f"{type(model).__name__}."
        )
    if is_rebuilt(model):
        raise RepqError("this model was merged or quantized already; start from the original.")
    unknown = sorted(set(head._modules) - _KNOWN_PARTS)
    if unknown:
        raise RepqError(f"only detection heads are supported; this one has {', '.join(unknown)}.")
    return model


def _predictions(head: Any) -> tuple[str, str]:
    return next(pair for pair in _PREDICTIONS if all(hasattr(head, name) for name in pair))
