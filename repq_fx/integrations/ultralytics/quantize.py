"""`quantize` and `merge` for ultralytics detectors."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from ... import analysis, api, passes
from ...lowering import Backend
from ...quant import Override, Scheme
from ...reconstruct import Reconstruction
from ..prediction_maps import PredictionMaps, only_image_size, require_side
from .calibration import calibration_images, mean_average_precision
from .detector import Network, put_back, require_detector
from .scheme import as_detector_scheme, detector_scheme

_LOGGER = logging.getLogger(__name__)
_DEFAULT_SCHEME = detector_scheme()


def merge(yolo: Any, *, imgsz: int | None = None) -> Any:
    """A float model like `yolo`, with the branches of every block merged; `yolo` is not changed.

    Args:
        yolo: An `ultralytics.YOLO` or `RTDETR` whose task is detect, segment, pose or obb.
        imgsz: Side of the images to trace with; by default the one it was trained with.

    Returns:
        A model of the same class that predicts, validates and tracks as `yolo` does.

    Raises:
        RepqError: The model is of another kind, which the message names.
        TraceError: See `repq_fx.trace`.
    """
    require_detector(yolo)
    side = image_size(yolo, imgsz)
    example = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    merged = _Merged.of(yolo, example)
    return merged.put_back(merged.graph)


def quantize(  # noqa: PLR0913  (as ultralytics has them, all by name)
    yolo: Any,
    data: str | Path,
    *,
    scheme: Scheme | str = _DEFAULT_SCHEME,
    reconstruction: Reconstruction | None = None,
    max_drop: float | None = None,
    imgsz: int | None = None,
    images: int = 128,
    split: str = "train",
    batch: int = 16,
    backend: str | Backend = Backend.INT8,
    progress: bool = True,
) -> Any:
    """An INT8 model like `yolo`, which is not changed.

    The convolutions of the detection head are quantized with the others, its decoding (distances,
    anchors, NMS) stays in float. Heads with masks, keypoints or angles and RT-DETR's decoder stay
    in float as a whole. Of a model with two heads, the one is quantized that
    ``yolo.model.end2end`` names.

    Args:
        yolo: An `ultralytics.YOLO` or `RTDETR` whose task is detect, segment, pose or obb.
        data: The data set's YAML file, as for ``yolo.val``.
        scheme: Bits, weight quantizer and range rule; see `detector_scheme` for other widths, of
            which a name such as "w6a6" says the bits.
        reconstruction: Learn rounding, ranges and biases; see `repq_fx.reconstruct`.
        max_drop: Points of mAP50-95 that may be lost on the ``val`` split; as few layers as
            measuring finds stay in float for it. None measures nothing.
        imgsz: Side of the calibration images; by default the one the model was trained with. The
            result runs for all sizes, unless the network itself is made for one (RT-DETR).
        images: The first so many of the split calibrate.
        split: Which images calibrate. Those that also evaluate would flatter the result.
        batch: Images in one forward pass.
        backend: As for `repq_fx.convert`.
        progress: Show a progress bar.

    Returns:
        A model of the same class; its ``predict``, ``val`` and ``track`` take what they always do.
        `save` writes it to a file and `load` reads that.

    Raises:
        RepqError: The model is of another kind or quantized already; the data cannot be read, is
            empty or has other classes; or no choice of layers in float meets `max_drop`.

    Example:
        >>> from repq_fx.integrations import ultralytics  # doctest: +SKIP
        >>> int8 = ultralytics.quantize(YOLO("yolov9t.pt"), "coco128.yaml")  # doctest: +SKIP
        >>> int8.predict("bus.jpg")  # doctest: +SKIP
    """
    require_detector(yolo)
    scheme = as_detector_scheme(scheme)
    for name, value in {"images": images, "batch": batch}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    if max_drop is not None and max_drop < 0:
        raise ValueError(f"max_drop must not be negative, got {max_drop}.")
    side = image_size(yolo, imgsz)
    calibration = calibration_images(
        yolo, data, split=split, count=images, image_size=side, batch=batch
    )
    merged = _Merged.of(yolo, calibration[0][:1])

    def quantized(scheme: Scheme) -> Any:
        return merged.put_back(
            api.quantize(
                merged.graph, calibration, scheme=scheme, reconstruction=reconstruction,
                backend=backend, progress=progress,
            )
        )  # fmt: skip

    result = quantized(scheme)
    if max_drop is None:
        return result

    def accuracy(model: Any) -> float:
        return mean_average_precision(model, data, image_size=side, batch=batch)[0]

    reference = accuracy(yolo)
    results: dict[int, Any] = {0: result}

    def drop(layers: list[str]) -> float:
        if len(layers) not in results:
            floats = (Override(layer, None) for layer in layers)
            results[len(layers)] = quantized(scheme.with_overrides(*floats))
        lost = reference - accuracy(results[len(layers)])
        _LOGGER.info("%d layers in float: mAP50-95 falls by %.2f points", len(layers), lost)
        return lost

    def sensitivities() -> dict[str, float]:
        return api.layer_sensitivities(merged.graph, calibration, scheme, progress=progress)

    chosen = analysis.fewest_float_layers(sensitivities, drop, max_drop)
    return results[len(chosen)]


def layer_sensitivities(
    yolo: Any, data: str | Path, *, scheme: Scheme, imgsz: int | None, images: int, batch: int
) -> dict[str, float]:
    """How much each layer alone disturbs the maps that the detector decodes.

    Args:
        yolo: As for `quantize`, as are the others.
        data: Its ``train`` split calibrates.
        scheme: What the layers would be quantized with.
        imgsz: Side of the images.
        images: How many calibrate.
        batch: Images in one forward pass.
    """
    shown = calibration_images(
        yolo, data, split="train", count=images, image_size=image_size(yolo, imgsz), batch=batch
    )
    graph = _Merged.of(yolo, shown[0][:1]).graph
    return api.layer_sensitivities(graph, shown, scheme, progress=False)


def float_layers(yolo: Any) -> list[str]:
    """Names of the convolutions and linear layers of a quantized model that stayed in float.

    Those of a head that stayed in float as a whole are not among them.
    """
    graph = yolo.model.model[0].graph
    kinds = (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)
    return [name for name, module in graph.named_modules() if isinstance(module, kinds)]


@dataclass(frozen=True)
class _Merged:
    """A detector, with its network in merged form.

    Attributes:
        yolo: The detector.
        graph: Its network.
        per_level: How many maps the graph returns for each level.
        image_size: The only size that the graph runs for; None where any will do.
    """

    yolo: Any
    graph: GraphModule
    per_level: int
    image_size: tuple[int, int] | None

    @staticmethod
    def of(yolo: Any, example: Tensor) -> "_Merged":
        network = Network(yolo.model)
        graph = passes.merge_graph(network, example)
        size = only_image_size(graph, network, example, int(max(yolo.model.stride)))
        return _Merged(yolo, graph, network.per_level, size)

    def put_back(self, graph: GraphModule) -> Any:
        """The detector with what the network has become."""
        return put_back(self.yolo, PredictionMaps(graph, self.per_level, self.image_size))


def image_size(yolo: Any, given: int | None = None) -> int:
    """Side of square images: the given one, or the one that the model was trained with.

    Raises:
        RepqError: It is no multiple of the model's stride.
    """
    side = given if given is not None else yolo.overrides.get("imgsz", 640)
    require_side(side, int(max(yolo.model.stride)))
    return int(side)
