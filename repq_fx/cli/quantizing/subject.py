"""What `repq quantize` needs of a float model: all that networks and detectors differ in."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.fx import GraphModule

from ...analysis.report import Protocol
from ...quant import Scheme
from ...reconstruct import Reconstruction
from ..stages import Stages
from .request import Request


class Subject(ABC):
    """A float model with its images; all that can be wrong with them has been refused.

    Attributes:
        USUAL_BATCH_SIZE: Images in one forward pass if nobody says how many.
        USUAL_IMAGES: How many calibrate if nobody says how many.
        USUAL_IMAGES_TO_LEARN: The same if a method learns from them.
        request: What is asked for.
    """

    USUAL_BATCH_SIZE: ClassVar[int]
    USUAL_IMAGES: ClassVar[int]
    USUAL_IMAGES_TO_LEARN: ClassVar[int]
    request: Request

    @classmethod
    def usual_images(cls, method: Reconstruction | None) -> int:
        """How many images calibrate if nobody says how many."""
        return cls.USUAL_IMAGES if method is None else cls.USUAL_IMAGES_TO_LEARN

    @staticmethod
    @abstractmethod
    def scheme_of(name: str) -> Scheme:
        """What the command line means by the name of a scheme."""

    @staticmethod
    @abstractmethod
    def open(request: Request, stages: Stages) -> "Subject":
        """Read the model and find the images.

        Raises:
            RepqError: Something of what is asked for is not there, or does not fit.
        """

    @property
    @abstractmethod
    def title(self) -> str:
        """Of the table."""

    @property
    @abstractmethod
    def protocol(self) -> Protocol:
        """How it is measured."""

    @property
    @abstractmethod
    def calibrating(self) -> str:
        """What calibrates, in words."""

    @property
    @abstractmethod
    def evaluated(self) -> str:
        """What evaluates, in words."""

    @abstractmethod
    def example(self) -> Tensor:
        """A batch of one image, of which latency is measured."""

    @abstractmethod
    def merge(self) -> Any:
        """The float model with its branches merged."""

    @abstractmethod
    def quantize(self) -> Any:
        """The INT8 model."""

    @abstractmethod
    def module_of(self, model: Any) -> nn.Module:
        """What a merged or quantized model runs on the `example`."""

    @abstractmethod
    def graph_of(self, model: Any) -> GraphModule:
        """The traced part of it."""

    @abstractmethod
    def evaluate(self, merged: Any, int8: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Values of `MODEL_COLUMNS` that tell the quality of the merged model, and of the INT8."""

    @abstractmethod
    def sensitivities(self, merged: Any) -> dict[str, float]:
        """How much noise each layer makes, by name."""
