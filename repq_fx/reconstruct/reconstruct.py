"""Learning on calibration data: from a calibrated network to what `convert` takes as it is."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.fx import GraphModule

from ..backend.prepared_view import PreparedView
from ..errors import CalibrationError
from ..quant.data import Batch, CalibrationData, number_of_inputs
from ..quant.images import reads_single_images
from ..refine.refined_copy import refined_copy
from ..refine.refinement import Refinement
from .activation_store import ActivationStore
from .checkpoint import Checkpoint
from .methods import Reconstruction, require_method
from .network import NetworkReconstruction, Run, fingerprint_of_run
from .networks import Networks

_LOGGER = logging.getLogger(__name__)
DEFAULT_MEMORY = 4 * 2**30


def reconstruct(
    prepared: GraphModule,
    data: Tensor | Iterable[Batch],
    method: Reconstruction,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    memory: int = DEFAULT_MEMORY,
    seed: int = 0,
    progress: bool = True,
) -> None:
    """Learn rounding, ranges and biases of a calibrated model for what its parts compute.

    Part by part, from the inputs on: ranges, integers and biases are found as `convert` would find
    them, then learned by gradient descent so that the part's outputs are those of the float
    network. What is found stays in ``prepared.meta``, where `convert` takes it from; the modules
    of `prepared` are not changed. Runs on the device of the model.

    A second call goes on from what the first has found, with another method or partition.

    A part goes back to where it started unless two errors fall on images that are held out: its
    own, and that of the network's outputs with all behind the part in float. The logger ``repq_fx``
    tells of every part what became of it, and warns of one whose loss was not finite.

    Args:
        prepared: The result of `prepare_fx` with `get_qconfig_mapping(scheme)`, calibrated.
        data: As for `calibrate`, without labels; at most ``method.images`` images are used.
        method: `AdaRound()`, `BRECQ()`, `QDrop()` or `RepAPQ()`.
        checkpoint: A file that is written after each part, and that an interrupted run with the
            same model, data, method and seed goes on from. It is left there at the end.
        memory: Bytes of activations to hold; what is over goes to temporary files.
        seed: Of all random numbers. On one kind of machine and with one number of threads equal
            seeds give equal results.
        progress: Show a progress bar with the part and its error.

    Raises:
        TypeError: `method` is none of the above.
        ValueError: `memory` is negative.
        ConversionError: `prepared` did not come from `prepare_fx`.
        CalibrationError: It was not calibrated; or the data is malformed, of several shapes, or too
            short for a batch.
        FileFormatError: `checkpoint` belongs to another run or is no checkpoint.
        OSError: The checkpoint or temporary files cannot be written.
    """
    require_method(method)
    if memory < 0:
        raise ValueError(f"reconstruct: memory must not be negative, got {memory}.")
    view = refined_copy(PreparedView.of(prepared, "reconstruct"), "reconstruct")
    before = Refinement.left_on(prepared)
    run, found = Run(method, seed, goes_on=before is not None), Refinement()
    networks = Networks.of(view)
    if before is not None:
        found.update(before)
        found.write(view.graph_module)
    inputs = _images(networks.original, data, method)
    with ActivationStore(len(inputs[0]), memory) as store:
        path = None if checkpoint is None else Path(checkpoint)
        finished = Checkpoint(path, fingerprint_of_run(networks, inputs, run, found))
        network = NetworkReconstruction(networks, inputs, run, store, found)
        reports = network.run(finished, progress=progress)
    found.leave_on(prepared)
    for report in reports:
        _LOGGER.info("reconstructed %s", report)


def _images(
    network: GraphModule, data: Tensor | Iterable[Batch], method: Reconstruction
) -> tuple[Tensor, ...]:
    """The first images of the data, joined.

    Raises:
        CalibrationError: See `reconstruct`.
    """
    batches = CalibrationData.of(data).inputs(number_of_inputs(network), label="reconstruct: batch")
    kept: list[tuple[Tensor, ...]] = []
    images = 0
    for index, inputs in enumerate(batches):
        shapes = [tuple(value.shape[1:]) for value in inputs]
        if any(value.shape[:1] != inputs[0].shape[:1] for value in inputs):
            raise CalibrationError(f"reconstruct: the inputs of batch {index} differ in length.")
        if index == 0 and reads_single_images(network, inputs):
            raise CalibrationError(
                f"reconstruct: batch 0 is a single image of shape {tuple(inputs[0].shape)}; give "
                f"batches, with an axis of images before it."
            )
        first = [tuple(value.shape[1:]) for value in kept[0]] if kept else shapes
        if shapes != first:
            raise CalibrationError(
                f"reconstruct: images of batch {index} have shape {shapes}, those before {first}; "
                "all must be alike."
            )
        kept.append(tuple(value[: method.images - images] for value in inputs))
        images += len(kept[-1][0])
        if images >= method.images:
            break
    if not kept:
        raise CalibrationError("reconstruct: the data is empty.")
    held_out = method.held_out(images)
    if images - held_out < method.batch_size:
        raise CalibrationError(
            f"reconstruct: of {images} images {held_out} are held out for validation, which leaves "
            f"less than a batch of {method.batch_size}; give more images or a smaller batch_size."
        )
    return tuple(torch.cat(values) for values in zip(*kept, strict=True))
