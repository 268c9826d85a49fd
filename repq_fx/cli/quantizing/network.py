"""Networks on the command line: quantized and measured on images."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.fx import GraphModule

from ... import analysis, api, passes
from ...analysis.report import Protocol, Timing, accuracy_fields, scores_of, similarity_fields
from ...errors import RepqError
from ...quant import Scheme
from ...reconstruct import Reconstruction
from ..caveats import labels_for, warn_of_few_images
from ..image_data import ImageData, image_format, open_images
from ..model_source import build_model, load_weights, require_runs
from ..stages import Stages, shows_bars
from .request import Request
from .subject import Subject


@dataclass(frozen=True)
class Network(Subject):
    """A network of the user's own or of timm.

    Attributes:
        request: What is asked for.
        module: The network.
        calibration: Images that calibrate.
        batches: The same, decoded.
        evaluation: Images that are evaluated.
        labels: Of these, where they are known.
    """

    USUAL_BATCH_SIZE = 32
    USUAL_IMAGES = 32
    USUAL_IMAGES_TO_LEARN = 256

    request: Request
    module: nn.Module
    calibration: ImageData
    batches: list[Tensor]
    evaluation: ImageData
    labels: Tensor | None

    @staticmethod
    def scheme_of(name: str) -> Scheme:
        """The scheme of that name."""
        return Scheme.of(name)

    @staticmethod
    def open(request: Request, stages: Stages) -> "Network":
        """Build the model and open the images.

        Raises:
            RepqError: Something of what is asked for is not there, or does not fit.
        """
        module, preprocessing = build_model(request.model)
        if request.weights is not None:
            load_weights(module, request.weights)
        changes = {"size": request.image_size, "mean": request.mean, "std": request.std}
        given: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
        preprocessing = replace(preprocessing, **given)
        images = evaluated = open_images(request.data, preprocessing)
        if request.eval_data is not None:
            evaluated = open_images(request.eval_data, preprocessing, option="--eval-data")
        calibrating = images.evenly(request.calibration_images)
        if request.reconstruction is not None:
            _require_enough_to_learn(request.reconstruction, calibrating.count)
        example = next(calibrating.batches(1))
        outputs = require_runs(module, example, "--image-size, --mean and --std")
        labels = labels_for(evaluated, outputs, stages)
        if request.weights is None and request.model.startswith("timm:"):
            stages.warn(f"without --weights {request.model} has random ones.")
        warn_of_few_images(calibrating.count, stages)
        _warn_of_same_images(request, calibrating.count, images.count, stages)
        batches = list(calibrating.batches(size=request.batch_size))
        return Network(request, module, calibrating, batches, evaluated, labels)

    @property
    def title(self) -> str:
        """Of the table."""
        return (
            f"{self.request.model}: {self.evaluated} of {self.evaluation.name}, "
            f"{self.calibration.count} calibrated; latency of one image, "
            f"{self.request.threads} thread(s)"
        )

    @property
    def protocol(self) -> Protocol:
        """How it is measured."""
        return Protocol(
            data=self.calibration.name, eval_data=self.evaluation.name,
            calibration_images=self.calibration.count, evaluation_images=self.evaluation.count,
            batch_size=self.request.batch_size,
            image=image_format(self.example().shape[1:], self.calibration.preprocessing),
            latency=Timing(batch_size=1, threads=self.request.threads),
        )  # fmt: skip

    @property
    def calibrating(self) -> str:
        """What calibrates, in words."""
        return f"{self.calibration.count} images"

    @property
    def evaluated(self) -> str:
        """What evaluates, in words."""
        return f"{self.evaluation.count} images"

    def example(self) -> Tensor:
        """The first image that calibrates."""
        return self.batches[0][:1]

    def merge(self) -> GraphModule:
        """The merged graph."""
        return passes.merge_graph(self.module, self.example())

    def quantize(self) -> GraphModule:
        """The INT8 graph."""
        request = self.request
        return api.quantize(
            self.module, self.batches, self.example(), scheme=request.scheme,
            reconstruction=request.reconstruction, backend=request.backend, progress=shows_bars(),
        )  # fmt: skip

    def module_of(self, model: GraphModule) -> nn.Module:
        """The graph itself."""
        return model

    def graph_of(self, model: GraphModule) -> GraphModule:
        """The same."""
        return model

    def evaluate(
        self, merged: GraphModule, int8: GraphModule
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Accuracy where labels are known, and what the INT8 graph keeps of the outputs."""
        reference, scores = (
            scores_of(
                model, self.evaluation.batches(size=self.request.batch_size), label=label,
                progress=shows_bars(),
            )
            for label, model in {"FP32": merged, "INT8": int8}.items()
        )  # fmt: skip
        return accuracy_fields(reference, self.labels), {
            **accuracy_fields(scores, self.labels),
            **similarity_fields(reference, scores),
            "float_operations": analysis.float_operations(int8),
        }

    def sensitivities(self, merged: GraphModule) -> dict[str, float]:
        """How much noise each layer makes, by name."""
        return api.layer_sensitivities(merged, self.batches, self.request.scheme, progress=False)


def _require_enough_to_learn(method: Reconstruction, count: int) -> None:
    """As `reconstruct` does after the calibration."""
    images = min(count, method.images)
    held_out = method.held_out(images)
    if images - held_out < method.batch_size:
        raise RepqError(
            f"--reconstruction {type(method).__name__.lower()} learns from batches of "
            f"{method.batch_size}, but of {images} images {held_out} are held out for validation; "
            "give more --data and --calibration-images."
        )


def _warn_of_same_images(request: Request, calibrating: int, count: int, stages: Stages) -> None:
    evaluated = request.eval_data
    if evaluated is None or evaluated.resolve() == request.data.resolve():
        stages.warn(
            f"the {calibrating} images that calibrate are among the {count} that are "
            "evaluated, which flatters the result; give others as --eval-data."
        )
