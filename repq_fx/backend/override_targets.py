"""Whether the overrides of a scheme name something that is there."""

import difflib
import re
from collections.abc import Iterable

from torch import nn

from ..quant import Override


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
        if _matches(target, merged):
            continue
        text = _text(target)
        if _matches(target, original):
            raise ValueError(
                f"Override: {text!r} is in the model, but merging has made it part of another "
                f"layer; the nearest in the merged model is {_nearest(target, merged)!r}."
            )
        raise ValueError(
            f"Override: {text!r} matches no module of the model; the nearest is "
            f"{_nearest(target, merged)!r}."
        )


def _matches(target: str | re.Pattern[str] | type[nn.Module], model: nn.Module) -> bool:
    if isinstance(target, type):
        return any(type(module) is target for module in model.modules())
    names = [name for name, _ in model.named_modules() if name]
    if isinstance(target, str):
        return target in names
    return any(target.match(name) for name in names)


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
