"""Merge what can be merged of a model that cannot be traced as a whole."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.fx import GraphModule

from ...errors import TraceError
from ..graph.example import Inputs, run
from ..graph.remove_unused import erase_assertions
from ..tracing.plain_attributes import copy_plain_attributes
from ..tracing.plain_layers import Leaves
from ..tracing.trace import copy_of, trace
from .merge_regions import merge_regions
from .region import Region

_Calls = Mapping[str, list[tuple[Tensor, ...] | None]]


def merge_parts(
    model: nn.Module, inputs: Inputs, leaves: Leaves
) -> tuple[nn.Module, list[Region]] | None:
    """A copy of `model` in which the largest submodules that can be traced are merged.

    A submodule is traced on what it gets when `model` runs on the example. One that is called with
    anything but tensors, or with tensors of different shapes, is taken apart further.

    Args:
        model: A model in evaluation mode; not changed.
        inputs: The example.
        leaves: As for `trace`.

    Returns:
        The copy, and the regions of all parts; None if no part can be traced.
    """
    merged = copy_of(model)
    calls = _recorded_calls(copy_of(model), inputs)  # a forward may change its model's state
    regions: list[Region] = []
    parts = list(_parts(merged, "", calls, leaves))
    for path, graph_module, own_inputs in parts:
        erase_assertions(graph_module)
        found = merge_regions(graph_module, own_inputs)
        regions += [replace(region, name=f"{path}.{region.name}") for region in found]
        if any(region.merged for region in found):
            copy_plain_attributes(merged.get_submodule(path), graph_module)
            merged.set_submodule(path, graph_module)
    return (merged, regions) if parts else None


def _parts(
    model: nn.Module, path: str, calls: _Calls, leaves: Leaves
) -> Iterator[tuple[str, GraphModule, tuple[Tensor, ...]]]:
    """The largest submodules below `path` that can be traced, with what they are called with."""
    for name, child in model.get_submodule(path).named_children():
        own_path = f"{path}.{name}" if path else name
        if own_path in leaves or type(child) in leaves or not any(child.children()):
            continue
        inputs = _common_inputs(calls.get(own_path, []))
        traced = None if inputs is None else _traced(child, inputs, _below(own_path, leaves, child))
        if inputs is None or traced is None:
            yield from _parts(model, own_path, calls, leaves)
        else:
            yield own_path, traced, inputs


def _traced(part: nn.Module, inputs: tuple[Tensor, ...], leaves: Leaves) -> GraphModule | None:
    try:
        return trace(part, inputs, leaves=leaves)
    except (TraceError, ValueError):
        return None


def _below(path: str, leaves: Leaves, part: nn.Module) -> Leaves:
    """The leaves in a part of the model, by the names that they have there."""
    names = [leaf for leaf in leaves if isinstance(leaf, str) and leaf.startswith(f"{path}.")]
    types = [leaf for leaf in leaves if leaf in set(map(type, part.modules()))]
    return [*(name.removeprefix(f"{path}.") for name in names), *types]


def _recorded_calls(model: nn.Module, inputs: Inputs) -> _Calls:
    """What each submodule is called with; None for a call with other things than tensors."""
    calls: dict[str, list[tuple[Tensor, ...] | None]] = {}
    handles = []
    for path, module in model.named_modules():

        def record(
            _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], path: str = path
        ) -> None:
            is_plain = args and not kwargs and all(isinstance(entry, Tensor) for entry in args)
            # A layer may overwrite its input.
            calls.setdefault(path, []).append(tuple(a.clone() for a in args) if is_plain else None)

        handles.append(module.register_forward_pre_hook(record, with_kwargs=True))
    try:
        run(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _common_inputs(calls: list[tuple[Tensor, ...] | None]) -> tuple[Tensor, ...] | None:
    """The inputs of the first call, if all calls have such inputs."""
    if not calls or calls[0] is None:
        return None
    shapes = [entry.shape for entry in calls[0]]
    alike = all(call is not None and [e.shape for e in call] == shapes for call in calls)
    return calls[0] if alike else None
