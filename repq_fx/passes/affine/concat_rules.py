"""Transfer functions of concatenation along the channels."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from ...reparam import MapError, stack
from .value import OPAQUE, AffineValue, Call, Rule, Source, View

CONCATENATIONS: tuple[Any, ...] = (torch.cat, torch.concat, torch.concatenate)
"""What puts values behind each other."""


def _concatenated(call: Call) -> AffineValue:
    bound = call.arguments("tensors", "dim")
    parts, shape = bound["tensors"], call.shape(call.node)
    axis = bound.get("dim", bound.get("axis", 0))
    if shape is None or not isinstance(parts, tuple | list) or not isinstance(axis, int):
        return OPAQUE
    axis %= len(shape)
    values = [call.value(part) for part in parts]
    known = [{*value.views, *value.refusals} for value in values]
    refusals = {s: r for value in values for s, r in value.refusals.items()}
    common = set.intersection(*known)
    stacked = AffineValue(
        {source: view for source, view in values[0].views.items() if source in common},
        {source: reason for source, reason in refusals.items() if source in common},
    )

    def join(source: Source, _: View) -> View:
        if source in refusals:
            raise MapError(refusals[source])
        views = [value.views[source] for value in values]
        if any(view.channel_axis != axis for view in views):
            raise MapError(f"it concatenates along axis {axis}, which holds no channels")
        return View(stack([view.map for view in views]), axis)

    return stacked.map(join)


FUNCTION_RULES: Mapping[Callable[..., Any], Rule] = MappingProxyType(
    dict.fromkeys(CONCATENATIONS, _concatenated)
)
METHOD_RULES: Mapping[str, Rule] = MappingProxyType({})
