"""The public functions that compose the steps; no algorithms here."""

import copy
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from torch import Tensor, nn
from torch.fx import GraphModule

from . import analysis, passes
from .backend import equalized, place_observers, require_override_targets, write_as_layers
from .export import unstorable
from .lowering import LOWERINGS, Backend, as_backend, to_reference
from .progress import Progress
from .quant import Override, Scheme
from .quant.calibration import CALIBRATE
from .quant.calibration import calibrate as _calibrate
from .quant.data import Batch, CalibrationData, fitting, model_inputs
from .reconstruct import Reconstruction, reconstruct, require_method
from .refine.survey import Survey, within_memory

_LOGGER = logging.getLogger(__name__)
ExampleInputs = Tensor | tuple[Tensor, ...]
_DEFAULT_SCHEME = Scheme()
# What the stages of `quantize` cost, in forward passes over the calibration images.
_MERGE, _EQUALIZE, _OBSERVE = "merge", "equalize", "place observers"
_CHOOSE, _LOWER = "choose integers", "lower"
_SENSITIVITY_IMAGES = 4
_WORK = {_MERGE: 1.0, _EQUALIZE: 1.5, _OBSERVE: 1.0, CALIBRATE: 1.2, _CHOOSE: 12.0, _LOWER: 0.3}


def calibrate(
    prepared: nn.Module,
    data: Tensor | Iterable[Batch],
    *,
    steps: int | None = None,
    progress: bool = True,
) -> None:
    """Show calibration data to the observers that `prepare_fx` inserted.

    Statistics add up over calls and do not depend on the order or size of the batches. The first
    32 images of the latest call, of small ones up to 1024, are kept in ``prepared.meta`` for what
    `convert` refines: ranges, rounding and biases. It reads as many of them as take 2 GiB, but at
    least 8, and logs that. Of a model that reads single images, without an axis that counts them,
    none is kept and nothing refined.

    Args:
        prepared: The result of `prepare_fx` with `get_qconfig_mapping(scheme)`.
        data: A float tensor ``[N, ...]``, or an iterable of batches: tensors, or sequences that
            begin with the model's inputs, such as ``(images, labels)``.
        steps: Use this many batches; all by default.
        progress: Show a progress bar.

    Raises:
        CalibrationError: No observers; the data is empty, ends before `steps`, or is constant; a
            batch (named by its index) has the wrong type, dtype or shape, or holds NaN or infinity.
    """
    with Progress({CALIBRATE: 1.0}, shown=progress) as bar:
        _calibrate(prepared, CalibrationData.of(data), steps=steps, progress=bar)


def convert(
    prepared: GraphModule, backend: str | Backend = Backend.INT8, *, progress: bool = True
) -> GraphModule:
    """Turn a calibrated model into a quantized one; `prepared` is not changed.

    Args:
        prepared: A model from `prepare_fx`, calibrated. After a loop of your own instead of
            `calibrate`, ranges are those of the float network, weights are rounded to nearest and
            biases are not corrected.
        backend: ``"reference"`` for integer weights with float32 arithmetic, which runs anywhere
            and defines the result, or ``"int8"`` for integer kernels.
        progress: Show a progress bar.

    Returns:
        A graph that maps float inputs to float outputs. What no quantized layer reads, above all
        the network's output, stays in float.

    Raises:
        ValueError: The backend is unknown.
        ConversionError: `prepared` did not come from `prepare_fx`.
        CalibrationError: `prepared` was not calibrated.
    """
    backend = as_backend(backend)
    work = {stage: _WORK[stage] for stage in (_CHOOSE, _LOWER)}
    with Progress(work, shown=progress) as bar:
        return _convert(prepared, backend, bar)


def _convert(prepared: GraphModule, backend: Backend, progress: Progress) -> GraphModule:
    progress.begin(_CHOOSE)
    reference = to_reference(prepared, progress)
    progress.begin(_LOWER)
    return analysis.warn_if_slow(prepared, LOWERINGS[backend](reference))


def quantize(  # noqa: PLR0913 -- every step in one call
    model: nn.Module,
    data: Tensor | Iterable[Batch],
    example_inputs: ExampleInputs | None = None,
    *,
    scheme: Scheme | str = _DEFAULT_SCHEME,
    reconstruction: Reconstruction | None = None,
    backend: str | Backend = Backend.INT8,
    leaves: passes.Leaves = (),
    fast: bool = False,
    progress: bool = True,
) -> GraphModule:
    """Merge, prepare, calibrate and convert in one call; `model` is not changed.

    Args:
        model: Any traceable model in evaluation mode, in training or deploy form. Of one in half
            or double precision, a copy in float32 is quantized.
        data: Calibration data, as for `calibrate`, read once; a reconstruction learns from its
            first images.
        example_inputs: The model's inputs; by default two images of the first batch of `data`, or
            all if the model takes no other number, of as many tensors as ``forward`` has parameters
            without a default.
        scheme: Bits, weight quantizer and range rule; or the name of a preset, such as "w6a6".
        reconstruction: Learn rounding, ranges and biases with this method; see `reconstruct`.
        backend: As for `convert`.
        leaves: Qualified names or types of modules to leave in float as they are; see `trace`.
        fast: Quantize by `Scheme.faster`, in a fraction of the time and a little less accurately.
        progress: Show a progress bar, and another one for a reconstruction.

    Raises:
        RepqError: As the single steps do.
        ValueError: An override of `scheme` matches nothing in the merged model, or there is no
            preset of the name.

    Example:
        >>> import torch, repq_fx
        >>> from repq_fx.models import fashion_repvgg
        >>> images = torch.randn(64, 1, 28, 28)
        >>> int8 = repq_fx.quantize(fashion_repvgg().eval(), images, progress=False)
        >>> int8(images[:2]).shape
        torch.Size([2, 10])
    """
    backend, scheme = as_backend(backend), Scheme.of(scheme)
    scheme = scheme.faster() if fast else scheme
    data, work = CalibrationData.of(data), dict(_WORK)
    shown: list[Batch] = []
    if reconstruction is not None:  # It has a bar of its own, and leaves nothing to choose.
        require_method(reconstruction)
        shown = data.beginning(reconstruction.images)
        del work[_CHOOSE], work[_LOWER]
    with Progress(work, shown=progress) as bar:
        prepared = _calibrated(model, data, example_inputs, scheme, leaves, bar)
        if reconstruction is None:
            return _convert(prepared, backend, bar)
    reconstruct(prepared, shown, reconstruction, progress=progress)
    return _convert(prepared, backend, Progress.hidden())


def _calibrated(
    model: nn.Module,
    data: CalibrationData,
    example_inputs: ExampleInputs | None,
    scheme: Scheme,
    leaves: passes.Leaves,
    progress: Progress,
) -> GraphModule:
    """`model` merged, equalized, with observers that have seen `data`."""
    first = data.first("quantize")
    progress.begin(_MERGE)
    in_single = passes.in_single_precision(model)
    if example_inputs is None:
        batch = model_inputs(first, passes.required_inputs(model), "calibration batch 0")
        example_inputs = passes.small_example(in_single, batch)
    inputs = passes.inputs_in_single_precision(passes.as_inputs(example_inputs))
    merged = passes.merge_graph(in_single, inputs, leaves=leaves)
    require_override_targets(scheme.overrides, merged, model)
    reasons = unstorable(merged)
    if reasons:
        _LOGGER.warning("what becomes of this model cannot be saved: %s", "; ".join(reasons))
    progress.begin(_EQUALIZE)
    scheme = scheme.with_overrides(*(Override(leaf, None) for leaf in leaves))
    write_as_layers(merged, inputs, scheme)
    if scheme.equalization:
        first_images = data.first_images(merged)
        images = first_images.joined()
        images = within_memory(images, Survey.of(merged, images), networks=1)
        with fitting(images, first_images.label):
            merged = equalized(merged, images, scheme)
    progress.begin(_OBSERVE)
    prepared = place_observers(merged, inputs, scheme)
    _calibrate(prepared, data, progress=progress)
    return prepared


def prepare(model: nn.Module, example_inputs: ExampleInputs, scheme: Scheme | str) -> GraphModule:
    """Insert the observers of `scheme`: `prepare_fx` with our tables, without its warnings.

    Unlike stock `prepare_fx` it places none where no quantized layer reads the tensor. A `model`
    that is a graph may be rewritten on the way.
    """
    scheme = Scheme.of(scheme)
    require_override_targets(scheme.overrides, model, model)
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    return place_observers(model, inputs, scheme)


def layer_sensitivities(
    merged: GraphModule, batches: Sequence[Tensor], scheme: Scheme, *, progress: bool = True
) -> dict[str, float]:
    """How much each layer alone disturbs the outputs; see `analysis.layer_sensitivities`.

    With ranges and rounding that are quick to find: they serve to compare layers.

    Args:
        merged: A graph in merged form; not changed.
        batches: Calibration data; the outputs are those of the first four images.
        scheme: As for `quantize`.
        progress: Show a progress bar.
    """
    quick = replace(scheme, gptq=False, output_search=False, sequential_ranges=False)
    merged, shown = copy.deepcopy(merged), batches[0][:_SENSITIVITY_IMAGES]
    data = CalibrationData.of(batches)
    write_as_layers(merged, (shown,), scheme)
    if scheme.equalization:
        merged = equalized(merged, data.first_images(merged).joined(), scheme)
    prepared = prepare(merged, shown, quick)
    calibrate(prepared, data, progress=progress)
    return analysis.layer_sensitivities(prepared, shown)
