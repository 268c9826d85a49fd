"""Attributes of modules that are neither tensors nor modules, and what a trace writes to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, fx, nn
from torch.fx import GraphModule
from torch.fx.graph_module import _USER_PRESERVED_ATTRIBUTES_KEY
from torch.utils._pytree import tree_leaves

_OWN_TO_EVERY_MODULE = frozenset({*vars(nn.Module()), *dir(nn.Module)})


def copy_plain_attributes(module: nn.Module, graph_module: GraphModule) -> None:
    """Let `graph_module`, which takes the place of `module`, answer to the same attributes.

    The model that calls it may ask, as ultralytics' does for the layers that one reads from. Names
    that the graph module has already, and private ones, are left out.
    """
    kept: dict[str, Any] = {}
    for name, value in _plain_attributes(module):
        if not hasattr(graph_module, name):
            kept.setdefault(name, value)  # that of the instance comes first
    for name, value in kept.items():
        setattr(graph_module, name, value)
    # A copy of a graph module has no other attributes than those.
    graph_module.meta.setdefault(_USER_PRESERVED_ATTRIBUTES_KEY, {}).update(kept)


@contextmanager
def without_proxies(model: nn.Module) -> Iterator[None]:
    """Take back the proxies that `model` has stored in itself when this block ends.

    A forward that writes ``self.mean = self.mean.type_as(x)`` leaves one where the graph, or
    another trace, looks for a tensor.
    """
    spaces: list[dict[str, Any]] = [
        space for module in model.modules() for space in (vars(module), module._buffers)
    ]
    before = [dict(space) for space in spaces]
    try:
        yield
    finally:
        for space, kept in zip(spaces, before, strict=True):
            written = [name for name, value in space.items() if value is not kept.get(name)]
            for name in written:
                if not any(isinstance(leaf, fx.Proxy) for leaf in tree_leaves(space[name])):
                    continue
                if name in kept:
                    space[name] = kept[name]
                else:
                    del space[name]


def _plain_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    classes = type(module).__mro__[: type(module).__mro__.index(nn.Module)]
    for space in (vars(module), *map(vars, classes)):
        for name, value in space.items():
            is_own = name not in _OWN_TO_EVERY_MODULE and not name.startswith("_")
            # Functions and properties of the class need an instance of it.
            is_code = space is not vars(module) and hasattr(value, "__get__")
            if is_own and not is_code and not _holds_state(value):
                yield name, value


def _holds_state(value: Any) -> bool:
    return any(isinstance(leaf, Tensor | nn.Module) for leaf in tree_leaves(value))
