"""What a report says about a model, computed from its outputs."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from .. import analysis
from ..analysis.report.rows import Row
from ..errors import RepqError
from ..lowering.int8.instructions import Int8Program
from .image_data import ImageData
from .stages import Stages, shows_bars

FEWEST_CALIBRATION_IMAGES = 16
LEAST_SQNR_DB = 15.0
LEAST_AGREEMENT_PERCENT = 90.0
LARGEST_DROP = 2.0  # Points of mAP50-95.
_SHOWN_LAYERS = 3


def accuracy_fields(scores: Tensor, labels: Tensor | None) -> dict[str, Any]:
    """``top1_percent``, where labels are known and the output is one score per class."""
    if labels is None or scores.dim() != 2:
        return {}
    return {"top1_percent": analysis.top1_accuracy(scores, labels)}


def similarity_fields(reference: Tensor, scores: Tensor) -> dict[str, Any]:
    """``sqnr_db``, and ``agreement_percent`` where the output is one score per class."""
    fields: dict[str, Any] = {"sqnr_db": analysis.sqnr_db(reference, scores)}
    if scores.dim() == 2:
        fields["agreement_percent"] = analysis.agreement(reference, scores)
    return fields


def slow_steps_of(
    merged: nn.Module, int8: GraphModule, example: Tensor, threads: int
) -> tuple[analysis.StepTime, ...] | None:
    """What makes a network slower than FP32, and its programs that run in PyTorch.

    None of one for the reference backend, which is not made to be fast.
    """
    if not any(isinstance(module, Int8Program) for module in int8.modules()):
        return None
    with analysis.thread_count(threads):
        return analysis.compare_speed(merged, int8, (example,)).slow_steps


def float_size(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers, as a float checkpoint stores them."""
    return sum(value.numel() * value.element_size() for value in model.state_dict().values())


def scores_of(model: nn.Module, batches: Iterable[Tensor], *, label: str) -> Tensor:
    """The outputs for all batches; of a model with several, one row of all their numbers each."""
    return analysis.predict(
        lambda batch: _joined(model(batch)), batches, label=label, progress=shows_bars()
    )


def _joined(outputs: object) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs
    found = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
    # With a third axis, so that nobody takes them for the scores of classes.
    return torch.cat([leaf.flatten(1) for leaf in found], 1).unsqueeze(1)


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
    reference, row = rows
    gained = None
    if row.map50_95_percent is not None and reference.map50_95_percent is not None:
        gained = row.map50_95_percent - reference.map50_95_percent
    limits = (
        (row.sqnr_db, LEAST_SQNR_DB, "SQNR {:.1f} dB"),
        (row.agreement_percent, LEAST_AGREEMENT_PERCENT, "agreement {:.1f} %"),
        (gained, -LARGEST_DROP, "mAP50-95 {:+.1f} points"),
    )
    known = [(value, least, text) for value, least, text in limits if value is not None]
    if all(value >= least for value, least, _ in known):
        return
    with stages.stage("diagnose", "find the layers that hurt most"):
        try:
            noise = sensitivities()
        except RepqError as error:  # The result stands without the diagnosis.
            stages.warn(f"which layers hurt most is unknown: {error}")
            noise = {}
    found = ", ".join(text.format(value) for value, _, text in known)
    total = sum(noise.values()) or 1.0
    worst = sorted(noise, key=lambda name: -noise[name])[:_SHOWN_LAYERS]
    layers = ", ".join(f"{name} ({noise[name] / total:.0%})" for name in worst)
    stages.warn(
        f"the result is far from FP32 ({found}). "
        + (f"The layers that hurt most, by their share of the noise: {layers}. " if layers else "")
        + "Try --float-layer NAME, more --calibration-images, --reconstruction repapq or more bits."
    )
