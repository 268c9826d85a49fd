"""Hooks that a traced graph would lose."""

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module

from ...errors import TraceError
from .computed_weights import remover_of
from .symbolic import Leaves, is_layer


def require_no_hooks(model: nn.Module, leaves: Leaves) -> None:
    """Check that no hook would be lost: of what becomes one node, or of the model itself.

    Those of a container are called while it is traced, and so are part of the graph; those in a
    leaf that was asked for stay with it. Those that torch calls around every module would see
    other modules.

    Raises:
        TraceError: One would be.
    """
    for hook in _hooks_of_all_modules():
        raise TraceError(
            f"Cannot trace a model while torch calls the hook '{hook}' around every module; "
            f"remove it, or make it part of a forward."
        )
    kept = tuple(f"{leaf}." for leaf in _leaf_names(model, leaves))
    for name, module in model.named_modules():
        if f"{name}.".startswith(kept) or not (module is model or is_layer(module)):
            continue
        for hook in foreign_hooks(module):
            place = f"'{name}'" if name else "the model"
            raise TraceError(
                f"Cannot trace a model with hooks: {place} ({type(module).__name__}) has the "
                f"forward hook '{hook}', which would be lost; remove it, or make it part of a "
                f"forward."
            )


def foreign_hooks(layer: nn.Module) -> Iterator[str]:
    """The names of the hooks that may change what a layer computes, but for those of its weight."""
    hooks = (*layer._forward_pre_hooks.values(), *layer._forward_hooks.values())
    return (_name_of(hook) for hook in hooks if remover_of(hook) is None)


def _hooks_of_all_modules() -> Iterator[str]:
    before, after = torch_module._global_forward_pre_hooks, torch_module._global_forward_hooks
    return map(_name_of, (*before.values(), *after.values()))


def _name_of(hook: Any) -> str:
    return getattr(hook, "__qualname__", None) or type(hook).__qualname__


def _leaf_names(model: nn.Module, leaves: Leaves) -> list[str]:
    return [n for n, m in model.named_modules() if n and (n in leaves or type(m) in leaves)]
