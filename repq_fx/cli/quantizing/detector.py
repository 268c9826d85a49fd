"""Detectors of ultralytics on the command line: quantized, and measured on their data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from ...analysis.report import ImageFormat, Protocol, Timing, scores_of, similarity_fields
from ...integrations import ultralytics
from ...quant import Scheme
from ..caveats import warn_of_few_images
from ..stages import Stages, shows_bars
from .request import Request
from .subject import Subject

_COMPARED_IMAGES = 16


@dataclass(frozen=True)
class Detector(Subject):
    """A detector of ultralytics; images of the train split calibrate, the val split evaluates.

    Attributes:
        request: What is asked for; its model names a .pt or .yaml file, its data a YAML file.
        model: What ultralytics made of the file.
        side: Of the images, in pixels.
        images: How many calibrate.
        evaluation_images: How many evaluate.
    """

    USUAL_BATCH_SIZE = 16
    USUAL_IMAGES = 128
    USUAL_IMAGES_TO_LEARN = 128

    request: Request
    model: Any
    side: int
    images: int
    evaluation_images: int

    @staticmethod
    def scheme_of(name: str) -> Scheme:
        """The scheme of that name, with what suits detectors."""
        return ultralytics.as_detector_scheme(name)

    @staticmethod
    def open(request: Request, stages: Stages) -> "Detector":
        """Read the file, and find the images.

        Raises:
            RepqError: Something of what is asked for is not there, or does not fit.
        """
        model = ultralytics.open_model(Path(request.model.partition(":")[2]))
        ultralytics.require_detector(model)
        side = ultralytics.image_size(model, request.image_size)
        folders = ultralytics.split_folders(model, request.data)
        sizes = ultralytics.split_sizes(model, request.data)
        images = min(request.calibration_images, sizes["train"])
        warn_of_few_images(images, stages)
        if folders["train"] == folders["val"]:
            stages.warn(
                f"the train and the val split of {str(request.data)!r} are the same images: the "
                "result is evaluated on what calibrates, which flatters it."
            )
        return Detector(request, model, side, images, sizes["val"])

    @property
    def title(self) -> str:
        """Of the table."""
        return (
            f"{self.request.model}: val split of {self.request.data.name} at {self.side} px, "
            f"{self.images} images of the train split calibrated; latency of one image, "
            f"without NMS, {self.request.threads} thread(s)"
        )

    @property
    def protocol(self) -> Protocol:
        """How it is measured."""
        request = self.request
        return Protocol(
            data=f"train split of {request.data}", eval_data=f"val split of {request.data}",
            calibration_images=self.images, evaluation_images=self.evaluation_images,
            batch_size=request.batch_size, image=ImageFormat.of_detector(self.side),
            latency=Timing(batch_size=1, threads=request.threads),
        )  # fmt: skip

    @property
    def calibrating(self) -> str:
        """What calibrates, in words."""
        return f"{self.images} images of the train split"

    @property
    def evaluated(self) -> str:
        """What evaluates, in words."""
        return "the val split"

    def example(self) -> Tensor:
        """Noise of the size of an image."""
        return torch.rand(1, 3, self.side, self.side)

    def merge(self) -> Any:
        """The merged detector."""
        return ultralytics.merge(self.model, imgsz=self.side)

    def quantize(self) -> Any:
        """The INT8 detector."""
        request = self.request
        return ultralytics.quantize(
            self.model, request.data, scheme=request.scheme, reconstruction=request.reconstruction,
            max_drop=request.max_drop, imgsz=self.side, images=self.images,
            batch=request.batch_size, backend=request.backend, progress=shows_bars(),
        )  # fmt: skip

    def module_of(self, model: Any) -> nn.Module:
        """The network with the decoding of boxes, without NMS."""
        module: nn.Module = model.model
        return module

    def graph_of(self, model: Any) -> GraphModule:
        """The network before the decoding of boxes."""
        graph: GraphModule = self._network(model).graph
        return graph

    def evaluate(self, merged: Any, int8: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Mean average precision, and what the INT8 network keeps of the maps of a few images."""
        request = self.request
        precisions = [
            ultralytics.mean_average_precision(
                model, request.data, image_size=self.side, batch=request.batch_size
            )
            for model in (merged, int8)
        ]
        images = ultralytics.calibration_images(
            merged, request.data, split="val", count=_COMPARED_IMAGES, image_size=self.side,
            batch=request.batch_size,
        )  # fmt: skip
        reference, maps = (
            scores_of(self._network(model), images, label="compare", progress=shows_bars())
            for model in (merged, int8)
        )
        float_fields, int8_fields = (
            {"map50_95_percent": map50_95, "map50_percent": map50} for map50_95, map50 in precisions
        )
        return float_fields, {
            **int8_fields,
            **similarity_fields(reference, maps),
            "float_layers": tuple(ultralytics.float_layers(int8)),
        }

    def sensitivities(self, merged: Any) -> dict[str, float]:  # noqa: ARG002  (merged anew)
        """How much noise each layer makes, by name."""
        request = self.request
        return ultralytics.layer_sensitivities(
            self.model, request.data, scheme=request.scheme, imgsz=self.side, images=self.images,
            batch=request.batch_size,
        )  # fmt: skip

    @staticmethod
    def _network(model: Any) -> Any:
        return model.model.model[0]
