"""Whether the overrides of a scheme name something that is there."""

import difflib
import re
from collections.abc import Iterable

from torch import nn

from ...quant import Override


def require_override_targets(
    overrides: Iterable[Override], merged: nn.Module, original: nn.Module
) -> None:
    """Refuse overrides that would do nothing.

    Args:
        overrides: Of the scheme.
        merged: The model that is to be quantized.
        original: The model before merging; `merged` itself where that is unknown.

    Raises:
        ValueError: A target is no module of `merged`.
    """
    for override in overrides:
        target = override.target
        if modules_of(override, merged):
            continue
        text = _text(target)
        if modules_of(override, original):
            raise ValueError(
                f"Override: {text!r} is in the model, but merging has made it part of another "
                f"layer; the nearest in the merged model is {_nearest(target, merged)!r}."
            )
        raise ValueError(
            f"Override: {text!r} matches no module of the model; the nearest is "
            f"{_nearest(target, merged)!r}."
        )


def modules_of(override: Override, model: nn.Module) -> list[nn.Module]:
    """The modules of `model` that an override is about."""
    target = override.target
    if isinstance(target, type):
        return [module for module in model.modules() if type(module) is target]
    named = [(name, module) for name, module in model.named_modules() if name]
    if isinstance(target, str):
        return [module for name, module in named if name == target]
    return [module for name, module in named if target.match(name)]


def _nearest(target: str | re.Pattern[str] | type[nn.Module], model: nn.Module) -> str:
    modules = dict(model.named_modules())
    modules.pop("", None)
    known = {type(m).__name__ for m in modules.values()} if isinstance(target, type) else modules
    near = difflib.get_close_matches(_text(target), sorted(known), n=1, cutoff=0.0)
    return near[0] if near else ""


def _text(target: str | re.Pattern[str] | type[nn.Module]) -> str:
    if isinstance(target, type):
        return target.__name__
    return target.pattern if isinstance(target, re.Pattern) else target
