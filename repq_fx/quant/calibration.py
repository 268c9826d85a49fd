"""Running calibration data through a prepared model."""

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from .._torch_ao import is_prepared
from ..errors import CalibrationError
from ..progress import Progress
from .data import CalibrationData, device_of, fitting, number_of_inputs
from .images import FirstImages, SingleImages, images_worth_keeping, leave_inputs
from .observers import ActivationObserver

_LOGGER = logging.getLogger(__name__)
CALIBRATE = "calibrate"
"""The name of this stage on a progress bar."""


def calibrate(
    prepared: Any, data: CalibrationData, *, steps: int | None = None, progress: Progress
) -> None:
    """Show every batch to the observers of `prepared`; see `repq_fx.calibrate`."""
    if steps is not None and steps < 1:
        raise ValueError(f"calibrate: steps must be at least 1, got {steps}.")
    _require_observers(prepared)
    _require_single_precision(prepared)
    lowest, highest, seen = float("inf"), float("-inf"), 0
    kept: FirstImages | None = None
    total = data.batch_count if steps is None else steps
    batches = data.inputs(number_of_inputs(prepared), device=device_of(prepared))
    progress.begin(CALIBRATE)
    for index, inputs in enumerate(islice(batches, steps)):
        _show(progress, index, total)
        with SingleImages(prepared, inputs) as single:
            _run(prepared, inputs, index)
        if not single.are_read:  # They cannot be joined, and one says too little.
            kept = kept or FirstImages(images_worth_keeping(inputs))
            kept.add(inputs)
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
    leave_inputs(prepared, None if kept is None else kept.joined())
    _report_constant_tensors(prepared)


def _require_observers(prepared: nn.Module) -> None:
    # A network without a layer that could be quantized has none either.
    has_any = any(isinstance(module, ActivationObserver) for module in prepared.modules())
    if not has_any and not is_prepared(prepared):
        raise CalibrationError(
            "calibrate: the model has no repq_fx observers; prepare it first with prepare_fx and "
            "repq_fx.get_qconfig_mapping(scheme)."
        )


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


@torch.no_grad()
def _run(prepared: nn.Module, inputs: tuple[Tensor, ...], index: int) -> None:
    with fitting(inputs, f"calibration batch {index}"):
        try:
            prepared(*(value.clone() for value in inputs))  # The model may overwrite them.
        except CalibrationError as error:
            place = f"inside the model, {_failing_tensor(prepared, inputs)}"
            raise CalibrationError(f"calibration batch {index}: {place}{error}") from error


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


def _report_constant_tensors(prepared: Any) -> None:
    for node, observer in _observers_called(prepared):
        observed, histogram = str(node.args[0]), observer.histogram
        try:
            lowest, highest = histogram.lowest, histogram.highest
        except CalibrationError as error:  # On a GPU nobody has looked before.
            raise CalibrationError(f"inside the model, at {observed!r}, {error}") from error
        if lowest == highest and node.args[0].op != "get_attr":
            _LOGGER.warning("the output of %r was %g for all calibration data", observed, lowest)
