"""The order of the passes."""

import logging
from collections.abc import Sequence

from torch import nn
from torch.fx import GraphModule

from ..errors import RepqError, TraceError
from .affine.views import features_with
from .gathering.norms import call_norm_layers
from .graph.example import (
    ExampleInputs,
    Inputs,
    as_inputs,
    difference,
    map_tensors,
    random_like,
    run,
)
from .graph.module_names import unshare_modules
from .graph.mutation import read_results_of_mutations
from .graph.remove_unused import erase_assertions, remove_unused
from .merging.append_affines import append_affines
from .merging.merge_parts import merge_parts
from .merging.merge_regions import merge_regions
from .merging.region import Region
from .tracing.hooks import require_no_hooks
from .tracing.plain_layers import Leaves
from .tracing.trace import copy_of, require_traceable, trace_and_run

_LOGGER = logging.getLogger(__name__)

_AMPLIFIED = (
    "Its later layers amplify rounding, as selecting the largest scores does; merge a part without "
    "them."
)
_USED_OTHERWISE = (
    "What calls a merged part asks for more of it, such as its class, than its forward and its "
    "attributes; keep that part by `leaves`."
)


def reparameterize(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    affine: bool = False,
    leaves: Leaves = (),
) -> GraphModule | nn.Module:
    """Merge every linear multi-branch part of `model` into one convolution.

    Regions are found by their algebra, not by class names: whatever lies between one tensor and
    another and is a convolution of it, border included. Each is merged in float64, verified on the
    example, and left as it was if it cannot be merged exactly or would cost more.

    Args:
        model: A float model in evaluation mode, in training form. It is not changed.
        example_inputs: A tensor or a tuple of tensors, the positional inputs of the model.
        affine: Keep a scale and a shift of each channel behind every merged convolution, as a batch
            normalization of fixed statistics, to be trained (QPRep of RepAPQ, arXiv 2402.16121).
            `prepare_fx` folds it; `RepAPQ` learns its own and needs none. `equalize` does not look
            through it.
        leaves: Qualified names or types of modules to leave alone; see `trace`.

    Returns:
        A graph module in evaluation mode that shares nothing with `model`. Of a model that cannot
        be traced as a whole, a copy in which the largest traceable submodules are such graph
        modules.

    Raises:
        TypeError: See `trace`.
        ValueError: See `trace`.
        TraceError: See `trace`; and no submodule can be traced either.
        RepqError: The merged model differs from `model` although each region agrees.

    Example:
        >>> import torch
        >>> from repq_fx.models import fashion_repvgg
        >>> merged = reparameterize(fashion_repvgg().eval(), torch.randn(1, 1, 28, 28))
        >>> merged.get_submodule("stem.reparam_conv")
        Conv2d(1, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """
    merged, regions = merge_with_report(model, example_inputs, leaves=leaves)
    if affine:
        append_affines(merged, {region.name for region in regions if region.merged})
    return merged


def find_regions(
    model: nn.Module, example_inputs: ExampleInputs, *, leaves: Leaves = ()
) -> list[Region]:
    """What `reparameterize` merges and what it refuses, and why; `model` is not changed.

    Args:
        model: As for `reparameterize`.
        example_inputs: As for `reparameterize`.
        leaves: As for `reparameterize`.

    Returns:
        The regions in the order of the graph. A part of a refused region may be merged on its own
        and then is listed too.

    Raises:
        RepqError: As `reparameterize` does.
    """
    _, regions = merge_with_report(model, example_inputs, leaves=leaves)
    return regions


def merge_with_report(
    model: nn.Module, example_inputs: ExampleInputs, *, leaves: Leaves = ()
) -> tuple[GraphModule | nn.Module, list[Region]]:
    """What `reparameterize` and `find_regions` return, for the price of one."""
    inputs = as_inputs(example_inputs)
    require_traceable(model, leaves)
    require_no_hooks(model, leaves)  # a part of the model could be traced without them
    try:
        return _merged_graph(model, inputs, leaves)
    except TraceError as error:
        merged_parts = merge_parts(model, inputs, leaves)
        if merged_parts is None:
            raise
        _log_parts(merged_parts[1], error)
    # A copy, as the forward that is not a graph may change the model's state.
    _require_agreement(model, copy_of(merged_parts[0]), *_samples_and_outputs(model, inputs))
    return merged_parts


def merge_graph(
    model: nn.Module, example_inputs: ExampleInputs, *, leaves: Leaves = ()
) -> GraphModule:
    """As `reparameterize`, for those who need the whole model as one graph.

    Raises:
        TraceError: The model cannot be traced as a whole.
    """
    inputs = as_inputs(example_inputs)
    require_traceable(model, leaves)
    require_no_hooks(model, leaves)
    try:
        return _merged_graph(model, inputs, leaves)[0]
    except TraceError:
        merged = _graph_of_merged_parts(model, inputs, leaves)
        if merged is None:
            raise
        return merged


def _graph_of_merged_parts(model: nn.Module, inputs: Inputs, leaves: Leaves) -> GraphModule | None:
    """The graph of a model of which parts are merged first; None if it cannot be traced either.

    With leaves the whole model is traced symbolically, but a part without any may be exported, and
    once it is merged it is a graph that can be traced.
    """
    merged_parts = merge_parts(model, inputs, leaves) if leaves else None
    if merged_parts is None:
        return None
    try:
        merged, _ = _merged_graph(merged_parts[0], inputs, leaves)
    except TraceError:
        return None
    _require_agreement(model, merged, *_samples_and_outputs(model, inputs))
    return merged


def _merged_graph(
    model: nn.Module, inputs: Inputs, leaves: Leaves
) -> tuple[GraphModule, list[Region]]:
    traced = trace_and_run(model, inputs, leaves)
    graph_module = traced.graph_module
    erase_assertions(graph_module)
    read_results_of_mutations(graph_module)
    features = features_with(graph_module, traced.likes)
    regions = merge_regions(graph_module, inputs, features)
    call_norm_layers(graph_module, traced.likes)
    remove_unused(graph_module)
    unshare_modules(graph_module)
    _require_agreement(model, graph_module, traced.samples, traced.outputs)
    return graph_module, regions


def _samples_and_outputs(
    model: nn.Module, inputs: Inputs
) -> tuple[tuple[Inputs, ...], list[object]]:
    samples = (inputs, random_like(inputs))
    reference = copy_of(model)
    return samples, [run(reference, sample) for sample in samples]


def _log_parts(regions: Sequence[Region], error: TraceError) -> None:
    if any(region.merged for region in regions):
        _LOGGER.info("Merged parts of a model, for want of its whole graph: %s", error)
    else:
        _LOGGER.warning("Nothing was merged in the parts of a model. %s", error)


def _require_agreement(
    model: nn.Module,
    merged: nn.Module,
    samples: Sequence[Inputs],
    outputs: Sequence[object],
) -> None:
    for sample, known in zip(samples, outputs, strict=True):
        departure = _departure(model, merged, sample, known)
        if departure is not None:
            raise RepqError(
                f"Cannot merge {type(model).__name__}: every merged region agrees with the "
                f"original, but the model as a whole does not: {departure}"
            )


def _departure(model: nn.Module, merged: nn.Module, sample: Inputs, known: object) -> str | None:
    """How the merged model differs from what the original computes, or None.

    Where single precision differs, double precision decides: some heads amplify rounding, which
    then says nothing about the merge.
    """
    try:
        departure = difference(known, run(merged, sample))
    except Exception as error:
        return f"the merged one fails with: {error}. {_USED_OTHERWISE}"
    if departure is None:
        return None
    # In a graph no part is called by the user's own code.
    reasons = (
        _AMPLIFIED
        if isinstance(merged, GraphModule)
        else f"Either: {_AMPLIFIED} Or: {_USED_OTHERWISE}"
    )
    exact = map_tensors(lambda t: t.double() if t.is_floating_point() else t, sample)
    try:
        exactly, found = (run(copy_of(net).double(), exact) for net in (model, merged))
    except Exception:  # a model that insists on its dtype
        return f"{departure}. {reasons}"
    differs = difference(exactly, found, tolerance=1e-4) is not None
    return f"{departure}. {reasons}" if differs else None
