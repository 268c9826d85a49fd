"""What `repq quantize` was asked for, checked."""

from dataclasses import dataclass
from pathlib import Path

from ...lowering import Backend
from ...quant import Scheme
from ...reconstruct import Reconstruction


@dataclass(frozen=True)
class Request:
    """The options, with what they stand for.

    Attributes:
        model: As the command line names it.
        data: Images that calibrate.
        out: Where the INT8 model goes.
        scheme_name: As the command line names the scheme.
        scheme: What it stands for.
        reconstruction: The method that learns, if one does.
        backend: What the result runs on.
        calibration_images: How many images calibrate.
        image_size: Side of the images; None for the model's own.
        batch_size: Images in one forward pass.
        threads: Of the measurement of latency.
        weights: Of networks: a state dict.
        eval_data: Of networks: images that are evaluated, in place of those that calibrate.
        mean: Of networks: what is subtracted from images, in place of the model's own.
        std: Of networks: what they are then divided by, in place of the model's own.
        max_drop: Of detectors: see `integrations.ultralytics.quantize`.
    """

    model: str
    data: Path
    out: Path
    scheme_name: str
    scheme: Scheme
    reconstruction: Reconstruction | None
    backend: Backend
    calibration_images: int
    image_size: int | None
    batch_size: int
    threads: int
    weights: Path | None
    eval_data: Path | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    max_drop: float | None
