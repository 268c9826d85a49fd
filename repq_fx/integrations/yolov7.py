"""YOLOv7: `quantize` returns the repository's own `Model`, whose network runs in INT8."""

import copy
import os
import sys
from functools import partial
from typing import Any

import torch
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
from .prediction_maps import PredictionMaps, require_side

REPOSITORY = Repository("yolov7detect", letterbox="utils.datasets", maps_per_level=1)
_DEFAULT_SCHEME = Scheme()
_HEADS = ("Detect", "IDetect", "IAuxDetect")


def merge(model: Any, *, imgsz: int = 640) -> Any:
    """A float model like `model`, with all branches and implicit layers merged.

    Args:
        model: A YOLOv7 ``Model``, fused or not, or the path of a checkpoint; it is not changed.
            Reading a checkpoint executes what is in it: use only files that you trust.
        imgsz: Side of the images to trace with.

    Returns:
        A model of the same class, which maps ``[N, 3, H, W]`` to ``[N, boxes, 5 + classes]`` and
        the raw predictions of each level, as `model` does, for all sizes. Its head is a ``Detect``.

    Raises:
        RepqError: It is something else, has another head, or was merged before; a package is
            missing; `imgsz` is not a multiple of the stride.
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

    All layers and the convolutions of the head are quantized; the decoding (anchors, grid) is the
    repository's own, in float. Auxiliary outputs for training are left out.

    Args:
        model: A YOLOv7 ``Model``, fused or not, whose head is a ``Detect``, ``IDetect`` or
            ``IAuxDetect``, or the path of a checkpoint. Reading one executes what is in it: use
            only files that you trust.
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
        >>> from repq_fx.integrations import yolov7  # doctest: +SKIP
        >>> int8 = yolov7.quantize("yolov7.pt", "coco/images/train2017")  # doctest: +SKIP
        >>> yolov7.save_checkpoint(int8, "yolov7_int8.pt")  # doctest: +SKIP
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

    Its ``detect.py`` (with ``--no-trace``) and ``test.py`` take the file as ``--weights`` where
    repq_fx is installed. From torch 2.6 on they need ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1`` in the
    environment for every checkpoint, this one or their own.

    Raises:
        RepqError: `model` is something else.
        OSError: `path` is not writable.
    """
    write_checkpoint(model, path)


class Network(nn.Module):
    """All layers of a detector but the decoding, under their original names."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.model = copy.deepcopy(detector.model).float().eval()
        head = self.model[-1]
        self.inputs = tuple(head.f)[: head.nl]  # Behind them, what auxiliary outputs read.
        self.needed = _needed(self.model, self.inputs)
        # Their `fuse` puts the implicit layers into the convolutions, and another forward in place.
        self.has_implicit = hasattr(head, "ia") and "forward" not in vars(head)
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map ``[N, 3, H, W]`` to one map ``[N, anchors * (5 + classes), h, w]`` for each level."""
        values: dict[int, Any] = {-1: image}
        for index in self.needed:
            layer = self.model[index]
            sources = _sources(layer, index)
            taken = [values[source] for source in sources]
            values[index] = layer(taken if isinstance(layer.f, list) else taken[0])
        head = self.model[-1]
        maps = []
        for level, source in enumerate(self.inputs):
            value = values[source]
            if self.has_implicit:
                maps.append(head.im[level](head.m[level](head.ia[level](value))))
            else:
                maps.append(head.m[level](value))
        return tuple(maps)


def _sources(layer: Any, index: int) -> list[int]:
    """Which layers `layer` reads; -1 is the image."""
    given = layer.f if isinstance(layer.f, list) else [layer.f]
    return [index + source if source < 0 else source for source in given]


def _needed(layers: Any, outputs: tuple[int, ...]) -> tuple[int, ...]:
    """The layers that `outputs` depend on, in order."""
    found: set[int] = set()
    open_ends = list(outputs)
    while open_ends:
        index = open_ends.pop()
        if index >= 0 and index not in found:
            found.add(index)
            open_ends += _sources(layers[index], index)
    return tuple(sorted(found))


class _Level(nn.Module):
    """One map out of the list."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index
        # The repository asks the first parameter for the device, and a graph may have none.
        self.marker = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[self.index]


def _put_back(model: Any, maps: PredictionMaps) -> Any:
    """A copy of `model` of `maps`, a layer that picks each level, and a head that only decodes."""
    detector = copy.deepcopy(model).float().eval()
    trained = detector.model[-1]
    # Not an IDetect: the repository's loader would merge its implicit layers once more.
    plain = sys.modules[type(trained).__module__].Detect
    head = plain(trained.nc, trained.anchors.flatten(1).tolist())
    head.m = nn.ModuleList(nn.Identity() for _ in range(trained.nl))
    for name in ("anchors", "anchor_grid", "stride"):
        setattr(head, name, getattr(trained, name))
    layers: list[Any] = [maps, *(_Level(level) for level in range(trained.nl)), head]
    for index, layer in enumerate(layers):
        # What the repository's parser notes on each layer: place, sources, name, parameters.
        layer.i, layer.f, layer.type = index, 0, type(layer).__name__
        layer.np = sum(parameter.numel() for parameter in layer.parameters())
    layers[0].f, layers[-1].f = -1, list(range(1, trained.nl + 1))
    detector.model = nn.Sequential(*layers).eval()
    detector.save = list(range(trained.nl + 1))
    return detector


def _detector(model: Any) -> Any:
    """Check that `model`, or what its file holds, is a detector to start from."""
    if isinstance(model, str | os.PathLike):
        model = read_checkpoint(model, REPOSITORY)
    layers = getattr(model, "model", None)
    named = type(model).__name__ == "Model" and hasattr(model, "save")
    if not named or not isinstance(layers, nn.Sequential) or len(layers) == 0:
        raise RepqError(
            "expected a YOLOv7 Model or the path of a checkpoint of one, got a "
            f"{type(model).__name__}."
        )
    if is_rebuilt(model):
        raise RepqError("this model was merged or quantized already; start from the original.")
    head = type(layers[-1]).__name__
    if head not in _HEADS:
        raise RepqError(f"the head {head} is not supported, only {', '.join(_HEADS)}.")
    return model
