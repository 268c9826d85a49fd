"""How rows of a command were measured: data, images, timing; and what its file says before them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ImageFormat:
    """What the model gets of an image; None for what is the model's own affair.

    Attributes:
        channels: How many.
        height_pixels: The size.
        width_pixels: The same.
        mean: Subtracted from each channel of an image between 0 and 1.
        std: What is then divided by.
    """

    channels: int | None = None
    height_pixels: int | None = None
    width_pixels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @staticmethod
    def of(
        shape: Sequence[int],
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> "ImageFormat":
        """The format of images ``[channels, height, width]``."""
        # Inputs with fewer axes are no images.
        channels, height, width = (*shape, None, None, None)[:3]
        return ImageFormat(channels, height, width, mean, std)

    @staticmethod
    def of_detector(side: int) -> "ImageFormat":
        """The squares that detectors see, with values from 0 to 1."""
        return ImageFormat(3, side, side, mean=(0.0,) * 3, std=(1.0,) * 3)


@dataclass(frozen=True)
class Timing:
    """How latency was measured: in so many rounds, by turns."""

    batch_size: int
    threads: int
    rounds: int = 30


@dataclass(frozen=True)
class Protocol:
    """How rows were measured; None where nothing was.

    Attributes:
        data: Where the images are from; None for noise.
        eval_data: Where those are from that evaluate.
        calibration_images: How many calibrate.
        evaluation_images: How many evaluate.
        batch_size: Images in one forward pass, of calibration and evaluation.
        image: What the model gets of each.
        latency: How it was timed.
    """

    data: str | None = None
    eval_data: str | None = None
    calibration_images: int | None = None
    evaluation_images: int | None = None
    batch_size: int | None = None
    image: ImageFormat = ImageFormat()
    latency: Timing | None = None


@dataclass(frozen=True)
class Session:
    """What a command did; its file has these keys for every command.

    Attributes:
        command: Of `repq`.
        model: As the command line named it.
        protocol: How the rows were measured.
        weights: File of the weights.
        output: File that the command wrote.
        scheme: Of the quantization.
        reconstruction: Method that learned, if one did.
        backend: What the quantized model runs on.
        stage_seconds: How long each part of the work took.
        warnings: What to know before relying on the rows.
        regions: What was merged, or why not.
        objects: What was found in images.
    """

    command: str
    model: str
    protocol: Protocol
    weights: Path | None = None
    output: Path | None = None
    scheme: Any = None
    reconstruction: Any = None
    backend: str | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    regions: Sequence[Mapping[str, Any]] | None = None
    objects: Sequence[Mapping[str, Any]] | None = None

    def context(self) -> dict[str, Any]:
        """The context of the command's `Report`."""
        return {
            "schema_version": SCHEMA_VERSION, **vars(self), "protocol": asdict(self.protocol),
        }  # fmt: skip
