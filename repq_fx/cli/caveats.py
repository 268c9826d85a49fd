"""What to know before relying on a result: labels of other classes, few images, large losses."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ..analysis.report import Row
from ..errors import RepqError
from .image_data import ImageData
from .stages import Stages

FEWEST_CALIBRATION_IMAGES = 16
LEAST_SQNR_DB = 15.0
LEAST_AGREEMENT_PERCENT = 90.0
LARGEST_DROP = 2.0  # Points of mAP50-95.
_SHOWN_LAYERS = 3


def labels_for(images: ImageData, outputs: object, stages: Stages) -> Tensor | None:
    """The labels, if they are those of the classes that the model scores in `outputs`.

    Of a folder whose subfolders are other classes than the model's they are left away, with a
    warning: it is of use without them.

    Raises:
        RepqError: A file of images says labels that the model does not have.
    """
    if images.labels is None or not isinstance(outputs, Tensor) or outputs.dim() != 2:
        return None
    classes = outputs.shape[1]
    if images.folders is not None and images.folders != classes:
        stages.warn(
            f"the model scores {classes} classes, but {images.name!r} has {images.folders} "
            "subfolders, so these are not taken for classes and no top-1 is measured."
        )
        return None
    lowest, highest = int(images.labels.min()), int(images.labels.max())
    if lowest < 0 or highest >= classes:
        raise RepqError(
            f"{images.name!r} has labels from {lowest} to {highest}, but the model scores "
            f"{classes} classes, 0 to {classes - 1}."
        )
    return images.labels


def warn_of_few_images(count: int, stages: Stages) -> None:
    """Say that a calibration on so few images is unreliable, if it is."""
    if count < FEWEST_CALIBRATION_IMAGES:
        stages.warn(
            f"only {count} image(s) calibrate; give at least {FEWEST_CALIBRATION_IMAGES}, "
            "better 32 or more, of what the model will see."
        )


def warn_of_bad_result(
    rows: Sequence[Row], sensitivities: Callable[[], dict[str, float]], stages: Stages
) -> None:
    """Say that the second of `rows` is far from the first, and which layers hurt most, if it is."""
    row = rows[1]
    before, after = (each.get("map50_95_percent") for each in rows)
    gained = None if before is None or after is None else after - before
    limits = (
        (row.get("sqnr_db"), LEAST_SQNR_DB, "SQNR {:.1f} dB"),
        (row.get("agreement_percent"), LEAST_AGREEMENT_PERCENT, "agreement {:.1f} %"),
        (gained, -LARGEST_DROP, "mAP50-95 {:+.1f} points"),
    )
    known = [(value, least, text) for value, least, text in limits if value is not None]
    if all(value >= least for value, least, _ in known):
        return
    with stages.stage("diagnose", "find the layers that hurt most"):
        try:
            layers = _worst(sensitivities())
        except RepqError as error:  # The result stands without the diagnosis.
            stages.warn(f"which layers hurt most is unknown: {error}")
            layers = ""
    found = ", ".join(text.format(value) for value, _, text in known)
    stages.warn(
        f"the result is far from FP32 ({found}). "
        + (f"The layers that hurt most, by their share of the noise: {layers}. " if layers else "")
        + "Try --float-layer NAME, more --calibration-images, --reconstruction repapq or more bits."
    )


def _worst(noise: Mapping[str, float]) -> str:
    """The layers that make most of the noise, with their share."""
    total = sum(noise.values()) or 1.0
    worst = sorted(noise, key=lambda name: -noise[name])[:_SHOWN_LAYERS]
    return ", ".join(f"{name} ({noise[name] / total:.0%})" for name in worst)
