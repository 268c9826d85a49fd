"""Running calibration data through a prepared model."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn

from .._torch_ao import is_prepared
from ..errors import CalibrationError
from ..progress import Progress
from .kept_inputs import KEPT_IMAGES, KEPT_INPUTS, images_worth_keeping, joined, keep
from .observers import ActivationObserver
from .single_images import SingleImages

_LOGGER = logging.getLogger(__name__)
_BATCH_SIZE = 32
CALIBRATE = "calibrate"
"""The name of this stage on a progress bar."""

Batch = Tensor | Sequence[Any]


def calibrate(
    prepared: Any,
    data: Tensor | Iterable[Batch],
    *,
    steps: int | None,
    total: int | None,
    progress: Progress,
) -> None:
    """Show every batch to the observers of `prepared`; see `repq_fx.calibrate`.

    `total` is how many batches there will be, for the bar, if that is known.
    """
    if steps is not None and steps < 1:
        raise ValueError(f"calibrate: steps must be at least 1, got {steps}.")
    observers = [m for m in prepared.modules() if isinstance(m, ActivationObserver)]
    # A network without a layer that could be quantized has none either.
    if not observers and not is_prepared(prepared):
        raise CalibrationError(
            "calibrate: the model has no repq_fx observers; prepare it first with prepare_fx and "
            "repq_fx.get_qconfig_mapping(scheme)."
        )
    _require_single_precision(prepared)
    input_count = sum(node.op == "placeholder" for node in prepared.graph.nodes)
    device = _device_of(prepared)
    lowest, highest, seen = float("inf"), float("-inf"), 0
    kept: list[tuple[Tensor, ...]] = []
    progress.begin(CALIBRATE)
    for index, batch in enumerate(islice(batches_of(data), steps)):
        _show(progress, index, total)
        inputs = model_inputs(batch, input_count, f"calibration batch {index}")
        inputs = tuple(value.to(device) for value in inputs)
        with SingleImages(prepared, inputs) as single:
            _run(prepared, inputs, index)
        if not single.are_read:  # They cannot be joined, and one says too little.
            keep(kept, inputs, images_worth_keeping(inputs))
        lowest = min(lowest, *(value.min().item() for value in inputs))
        highest = max(highest, *(value.max().item() for value in inputs))
        seen += 1
    if seen == 0:
        raise CalibrationError("calibrate: the calibration data is empty.")
    if steps is not None and seen < steps:
        raise CalibrationError(
            f"calibrate: the calibration data ended after {seen} of {steps} batches."
        )
    if lowest == highest:
        raise CalibrationError(
            f"calibrate: every value of the calibration data is {lowest:g}; nothing to learn."
        )
    prepared.meta[KEPT_INPUTS] = joined(kept) if kept else None
    _report_constant_tensors(prepared)


def _show(progress: Progress, index: int, total: int | None) -> None:
    if total:
        progress.step(min(index / total, 1.0), f"batch {index + 1} of {total}")
    else:
        progress.step(0.0, f"batch {index + 1}")


def _require_single_precision(prepared: nn.Module) -> None:
    for name, tensor in (*prepared.named_parameters(), *prepared.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise CalibrationError(
                f"calibrate: {name!r} is {tensor.dtype}; integers are chosen in float32, so give "
                f"prepare_fx model.float()."
            )


def _device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def batches_of(data: Tensor | Iterable[Batch]) -> Iterator[Batch]:
    """The batches of a loader, or of a tensor cut into batches of 32.

    Raises:
        CalibrationError: `data` cannot be iterated.
    """
    if isinstance(data, Tensor):
        return iter(data.split(_BATCH_SIZE) if data.dim() and len(data) else ())
    if not isinstance(data, Iterable):
        raise CalibrationError(
            "the calibration data must be a tensor or an iterable of batches, "
            f"got {type(data).__name__}."
        )
    return iter(data)


def first_images(model: Any, seen: list[Batch], batches: Iterator[Batch]) -> tuple[Tensor, ...]:
    """The first 32 images that `calibrate` would keep, joined into one batch for `model`.

    Args:
        model: A graph module.
        seen: Batches taken from `batches` already, at least one; those taken here are added.
        batches: The rest of the calibration data.

    Raises:
        CalibrationError: See `model_inputs`.
    """
    count = sum(node.op == "placeholder" for node in model.graph.nodes)
    device = _device_of(model)
    kept: list[tuple[Tensor, ...]] = []
    for index, batch in enumerate(chain(list(seen), batches)):
        if index >= len(seen):
            seen.append(batch)
        inputs = model_inputs(batch, count, f"calibration batch {index}")
        inputs = tuple(value.to(device) for value in inputs)
        if index == 0:
            single = SingleImages(model, inputs)
            if single.are_possible:
                with single:
                    _run(model, inputs, index)
            if single.are_read:
                return inputs
        keep(kept, inputs, KEPT_IMAGES)
        if sum(values[0].shape[:1].numel() for values in kept) >= KEPT_IMAGES:
            break
    return joined(kept)


def model_inputs(batch: Batch, count: int, label: str) -> tuple[Tensor, ...]:
    """The first `count` tensors of a batch, such as ``(images, labels)``, in float32.

    Raises:
        CalibrationError: The batch holds fewer, or one is empty, not floating-point or NaN, or the
            first is infinite; the message begins with `label`.
    """
    values = (batch,) if isinstance(batch, Tensor) else batch
    if not isinstance(values, Sequence) or len(values) < count:
        raise CalibrationError(
            f"{label} must be a tensor or a sequence that begins with the model's {count} "
            f"input(s), got {type(batch).__name__}."
        )
    inputs = tuple(values[:count])
    for index, value in enumerate(inputs):
        if not isinstance(value, Tensor):
            raise CalibrationError(f"{label} holds a {type(value).__name__}, expected a tensor.")
        if not value.is_floating_point():
            raise CalibrationError(
                f"{label} has dtype {value.dtype}, expected a floating-point tensor."
            )
        if value.numel() == 0:
            raise CalibrationError(f"{label} is empty: shape {tuple(value.shape)}.")
        # A mask beside the images may be infinite; where a layer reads it, an observer objects.
        is_bad = value.isnan() if index else ~value.isfinite()
        if is_bad.any():
            raise CalibrationError(f"{label} holds NaN or infinite values.")
    return tuple(value.float() for value in inputs)


@torch.no_grad()
def _run(prepared: nn.Module, inputs: tuple[Tensor, ...], index: int) -> None:
    with fitting(inputs, f"calibration batch {index}"):
        try:
            prepared(*(value.clone() for value in inputs))  # The model may overwrite them.
        except CalibrationError as error:
            place = f"inside the model, {_failing_tensor(prepared, inputs)}"
            raise CalibrationError(f"calibration batch {index}: {place}{error}") from error


@contextmanager
def fitting(inputs: tuple[Tensor, ...], label: str) -> Iterator[None]:
    """Say of which inputs, called `label`, it was that a model could not be run with them.

    Raises:
        CalibrationError: What runs inside fails.
    """
    try:
        yield
    except (RuntimeError, ValueError, TypeError) as error:
        shapes = ", ".join(f"{tuple(value.shape)} {value.dtype}" for value in inputs)
        reason = str(error).partition("\n")[0]
        raise CalibrationError(f"{label} ({shapes}) does not fit the model: {reason}") from error


def _failing_tensor(prepared: Any, inputs: tuple[Tensor, ...]) -> str:
    """Which tensor an observer refuses, found by a second run."""
    observed = [str(node.args[0]) for node, _ in _observers_called(prepared)]
    calls: list[None] = []
    hooks = [
        observer.register_forward_pre_hook(lambda *_: calls.append(None))
        for observer in {observer: None for _, observer in _observers_called(prepared)}
    ]
    try:
        prepared(*(value.clone() for value in inputs))
    except CalibrationError:
        return f"at {observed[len(calls) - 1]!r}, "
    finally:
        for hook in hooks:
            hook.remove()
    return ""


def _observers_called(prepared: Any) -> Iterator[tuple[Any, ActivationObserver]]:
    """The calls of observers in the order in which they run."""
    for node in prepared.graph.nodes:
        if node.op == "call_module":
            observer = prepared.get_submodule(node.target)
            if isinstance(observer, ActivationObserver):
                yield node, observer


def number_of_batches(data: Any) -> int | None:
    """How many batches `batches_of` gives, if the data knows."""
    if isinstance(data, Tensor):
        return -(-len(data) // _BATCH_SIZE)
    try:
        return len(data)
    except TypeError:
        return None


def _report_constant_tensors(prepared: Any) -> None:
    for node, observer in _observers_called(prepared):
        observed, histogram = str(node.args[0]), observer.histogram
        try:
            lowest, highest = histogram.lowest, histogram.highest
        except CalibrationError as error:  # On a GPU nobody has looked before.
            raise CalibrationError(f"inside the model, at {observed!r}, {error}") from error
        if lowest == highest and node.args[0].op != "get_attr":
            _LOGGER.warning("the output of %r was %g for all calibration data", observed, lowest)
