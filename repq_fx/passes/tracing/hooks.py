"""Hooks of layers: those that compute a weight leave it as a parameter, others must not be lost."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._pytree import tree_leaves

from ...errors import TraceError
from .plain_layers import Leaves, is_layer, layer_type


def _remove_pruning(layer: nn.Module, hook: Any) -> None:
    prune.remove(layer, hook._tensor_name)


_REMOVERS: Mapping[type, Callable[[nn.Module, Any], object]] = MappingProxyType(
    {
        WeightNorm: lambda layer, hook: remove_weight_norm(layer, hook.name),
        SpectralNorm: lambda layer, hook: remove_spectral_norm(layer, hook.name),
        prune.BasePruningMethod: _remove_pruning,
    }
)
"""What leaves the weight that a pre-hook of torch computes in evaluation mode as a parameter."""
_CONTAINERS = (tuple, list, dict, deque)


def _remover_of(hook: object) -> Callable[[nn.Module, Any], object] | None:
    """What replaces a hook of torch that computes a weight by that weight; None of other hooks."""
    found = (remover for kind, remover in _REMOVERS.items() if isinstance(hook, kind))
    return next(found, None)


def store_computed_weights(model: nn.Module) -> None:
    """Make every weight that torch computes from others at each call a parameter, in place.

    That is what `torch.nn.utils.parametrize`, `weight_norm`, `spectral_norm` and `prune` do. In
    evaluation mode the weight is the same at every call.
    """
    for layer in model.modules():
        # A later hook may compute what an earlier one reads, as pruning of a normalized weight.
        for hook in reversed(list(layer._forward_pre_hooks.values())):
            remover = _remover_of(hook)
            if remover is not None:
                remover(layer, hook)
        if parametrize.is_parametrized(layer):
            _store_parametrized(layer)


def _store_parametrized(layer: Any) -> None:
    """As `remove_parametrizations`, which would change the class that `copy.deepcopy` shares."""
    parametrizations = dict(layer.parametrizations)
    values = {name: getattr(layer, name).detach().clone() for name in parametrizations}
    layer.__class__ = layer_type(layer)
    del layer.parametrizations
    for name, value in values.items():
        originals = list(parametrizations[name].parameters(recurse=False))
        if originals:
            requires_grad = any(original.requires_grad for original in originals)
            layer.register_parameter(name, nn.Parameter(value, requires_grad=requires_grad))
        else:
            layer.register_buffer(name, value)


def computed_tensors(model: nn.Module) -> list[Tensor]:
    """Tensors with a history of gradients that modules keep, which torch does not copy."""
    kept = (leaf for module in model.modules() for leaf in _kept_leaves(module))
    return [leaf for leaf in kept if isinstance(leaf, Tensor) and not leaf.is_leaf]


def _kept_leaves(module: nn.Module) -> Iterator[Any]:
    """What a module keeps beside its parts and parameters, which no history leads to."""
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, _CONTAINERS) and value and name not in ("_modules", "_parameters"):
            yield from tree_leaves(value)


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
    return (_name_of(hook) for hook in hooks if _remover_of(hook) is None)


def _hooks_of_all_modules() -> Iterator[str]:
    before, after = torch_module._global_forward_pre_hooks, torch_module._global_forward_hooks
    return map(_name_of, (*before.values(), *after.values()))


def _name_of(hook: Any) -> str:
    return getattr(hook, "__qualname__", None) or type(hook).__qualname__


def _leaf_names(model: nn.Module, leaves: Leaves) -> list[str]:
    return [n for n, m in model.named_modules() if n and (n in leaves or type(m) in leaves)]
